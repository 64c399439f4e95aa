# 2 lines
# found by: a clean end after
# A connection that was reset right after its end looks like one that ended cleanly.
/^static ssize_t read_outcome/,/^}/s/return net_socket_error(fd) == 0 ? 0 : NET_RESET;/return fd < 0 ? NET_RESET : 0;/
