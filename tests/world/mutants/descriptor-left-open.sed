# 1 lines
# found by: other descriptors, a new one
# The spare descriptor that an agent gives up for an app's connection stays open.
/^bool spares_give/,/^}/{/^  close(fd);$/d}
