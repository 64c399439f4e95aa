# 2 lines
# found by: was told to two owners
# A raw port is given before its lease is on the disk.
/^static void round_run/,/^}/{
/^  round_commit(k, r);$/d
/take_end(k, r/a\
  round_commit(k, r);
}
