/* SQLite's files on the disks of the world. */
#ifndef WORLD_SQLITE_VFS_H
#define WORLD_SQLITE_VFS_H

void sqlite_vfs_install(void);     /* SQLite is initialized, and opens databases there */

#endif
