/* read, write and their p- and v-forms, lseek with holes, truncate, fallocate. */
#include "check.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

static void basics(void)
{
    char b[64] = { 0 };
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    EQ("write", write(fd, "0123456789", 10), 10);
    EQ("tell", lseek(fd, 0, SEEK_CUR), 10);
    EQ("read_at_end", read(fd, b, 8), 0);
    EQ("seek_set", lseek(fd, 2, SEEK_SET), 2);
    EQ("read", read(fd, b, 4), 4);
    TEXT("read_text", b, "2345");
    EQ("read_short", read(fd, b, 64), 4);
    EQ("seek_end", lseek(fd, -3, SEEK_END), 7);
    ERR("seek_negative", lseek(fd, -1, SEEK_SET), EINVAL);
    ERR("seek_before", lseek(fd, -20, SEEK_CUR), EINVAL);
    ERR("seek_whence", lseek(fd, 0, 9), EINVAL);
    EQ("seek_stays", lseek(fd, 0, SEEK_CUR), 7);
    EQ("pread", pread(fd, b, 3, 1), 3);
    EQ("pread_keeps_offset", lseek(fd, 0, SEEK_CUR), 7);
    ERR("pread_negative", pread(fd, b, 3, -1), EINVAL);
    EQ("pread_beyond", pread(fd, b, 3, 100), 0);
    EQ("pwrite", pwrite(fd, "ab", 2, 14), 2);
    memset(b, 'x', sizeof b);
    EQ("gap_read", pread(fd, b, 16, 8), 8);
    CHECK("gap_zero", b[2] == 0 && b[5] == 0 && b[6] == 'a' && b[7] == 'b' && b[8] == 'x');
    EQ("write_zero", write(fd, b, 0), 0);
    EQ("read_zero", read(fd, b, 0), 0);
    ERR("read_bad_pointer", pread(fd, (void *)16, 4, 0), EFAULT);
    ERR("write_bad_pointer", pwrite(fd, (void *)16, 4, 0), EFAULT);
    ERR("read_bad_fd", read(-1, b, 1), EBADF);
    ERR("write_bad_fd", write(1000, b, 1), EBADF);
    lseek(fd, 1000, SEEK_SET);
    EQ("read_beyond", read(fd, b, 1), 0);
    close(fd);
    int p[2];
    pipe(p);
    ERR("pipe_seek", lseek(p[0], 0, SEEK_CUR), ESPIPE);
    ERR("pipe_pread", pread(p[0], b, 1, 0), ESPIPE);
    ERR("pipe_pwrite", pwrite(p[1], b, 1, 0), ESPIPE);
    close(p[0]);
    close(p[1]);
}

static void vectors(void)
{
    char a[4] = { 0 }, b[4] = { 0 }, c[64] = { 0 };
    struct iovec out[3] = { { "ab", 2 }, { "", 0 }, { "cdef", 4 } };
    struct iovec in[2] = { { a, 3 }, { b, 3 } };
    int fd = open("v", O_CREAT | O_RDWR | O_TRUNC, 0644);
    EQ("writev", writev(fd, out, 3), 6);
    EQ("preadv", preadv(fd, in, 2, 0), 6);
    CHECK("preadv_text", !memcmp(a, "abc", 3) && !memcmp(b, "def", 3));
    EQ("pwritev", pwritev(fd, out, 3, 6), 6);
    EQ("pwritev_keeps_offset", lseek(fd, 0, SEEK_CUR), 6);
    EQ("readv_short", readv(fd, (struct iovec[]){ { c, 4 }, { c + 4, 60 } }, 2), 6);
    TEXT("readv_text", c, "abcdef");
    EQ("preadv2_cur", (lseek(fd, 1, SEEK_SET), preadv2(fd, in, 1, -1, 0)), 3);
    EQ("preadv2_moves", lseek(fd, 0, SEEK_CUR), 4);
    EQ("pwritev2_append", pwritev2(fd, out, 1, 0, RWF_APPEND), 2);
    EQ("pwritev2_append_size", lseek(fd, 0, SEEK_END), 14);
    ERR("preadv2_flag", preadv2(fd, in, 1, 0, 1 << 20), EOPNOTSUPP);
    EQ("writev_none", writev(fd, out, 0), 0);
    ERR("writev_negative", writev(fd, out, -1), EINVAL);
    static struct iovec many[IOV_MAX + 1];
    ERR("writev_too_many", writev(fd, many, IOV_MAX + 1), EINVAL);
    EQ("writev_iov_max", writev(fd, many, IOV_MAX), 0);
    many[0] = (struct iovec){ a, -1 };
    ERR("writev_length", writev(fd, many, 1), EINVAL);
    ERR("writev_bad_array", writev(fd, (void *)16, 2), EFAULT);
    struct iovec half[2] = { { "xy", 2 }, { (void *)16, 2 } };
    EQ("writev_partly_bad", writev(fd, half, 2), 2);
    ERR("readv_bad", preadv(fd, half + 1, 1, 0), EFAULT);
    close(fd);
}

static void holes(void)
{
    int fd = open("sparse", O_CREAT | O_RDWR | O_TRUNC, 0644);
    EQ("grow", ftruncate(fd, 1 << 20), 0);
    struct stat st;
    fstat(fd, &st);
    EQ("grow_size", st.st_size, 1 << 20);
    EQ("grow_blocks", st.st_blocks, 0);
    EQ("hole_at_start", lseek(fd, 0, SEEK_HOLE), 0);
    ERR("data_none", lseek(fd, 0, SEEK_DATA), ENXIO);
    pwrite(fd, "x", 1, 65536);
    EQ("data", lseek(fd, 0, SEEK_DATA), 65536);
    EQ("data_inside", lseek(fd, 65537, SEEK_DATA), 65537);
    EQ("hole_after_data", lseek(fd, 65536, SEEK_HOLE), 65536 + 4096);
    ERR("data_beyond", lseek(fd, 1 << 20, SEEK_DATA), ENXIO);
    ERR("hole_beyond", lseek(fd, 2 << 20, SEEK_HOLE), ENXIO);
    EQ("shrink", ftruncate(fd, 65537), 0);
    EQ("hole_is_end", lseek(fd, 65536, SEEK_HOLE), 65537);
    ftruncate(fd, 70000);
    char b[16];
    pread(fd, b, 4, 65536);
    CHECK("regrown_zero", b[0] == 'x' && b[1] == 0 && b[2] == 0);
    ERR("truncate_negative", ftruncate(fd, -1), EINVAL);
    int ro = open("sparse", O_RDONLY);
    ERR("truncate_read_only", ftruncate(ro, 0), EINVAL);
    close(ro);
    ERR("truncate_dir", truncate(".", 0), EISDIR);
    ERR("truncate_missing", truncate("missing", 0), ENOENT);
    EQ("truncate_path", truncate("sparse", 100), 0);
    EQ("truncate_path_size", lseek(fd, 0, SEEK_END), 100);
    close(fd);
}

static void allocate(void)
{
    struct stat st;
    int fd = open("alloc", O_CREAT | O_RDWR | O_TRUNC, 0644);
    OK("fallocate", fallocate(fd, 0, 0, 100000));
    fstat(fd, &st);
    EQ("fallocate_size", st.st_size, 100000);
    CHECK("fallocate_blocks", st.st_blocks * 512 >= 100000);
    OK("fallocate_keep", fallocate(fd, FALLOC_FL_KEEP_SIZE, 100000, 100000));
    fstat(fd, &st);
    EQ("fallocate_keep_size", st.st_size, 100000);
    char b[4096], z[4096] = { 0 };
    memset(b, 'q', sizeof b);
    for (int i = 0; i < 24; i++)
        pwrite(fd, b, sizeof b, i * 4096);
    OK("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
    pread(fd, b, sizeof b, 4096);
    CHECK("punched_zero", !memcmp(b, z, sizeof b));
    EQ("punched_hole", lseek(fd, 0, SEEK_HOLE), 4096);
    pread(fd, b, sizeof b, 12288);
    CHECK("not_punched", b[0] == 'q' && b[4095] == 'q');
    ERR("punch_without_keep", fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
    ERR("fallocate_zero", fallocate(fd, 0, 0, 0), EINVAL);
    ERR("fallocate_negative", fallocate(fd, 0, -1, 10), EINVAL);
    ERR("fallocate_mode", fallocate(fd, 0x4000, 0, 10), EOPNOTSUPP);
    RET("posix_fallocate", posix_fallocate(fd, 0, 200000), 0);
    EQ("posix_fallocate_size", lseek(fd, 0, SEEK_END), 200000);
    OK("zero_range", fallocate(fd, FALLOC_FL_ZERO_RANGE, 12288, 10));
    pread(fd, b, 16, 12288);
    CHECK("zero_range_bytes", b[0] == 0 && b[9] == 0 && b[10] == 'q');
    int ro = open("alloc", O_RDONLY);
    ERR("fallocate_read_only", fallocate(ro, 0, 0, 10), EBADF);
    close(ro);
    RET("fadvise", posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED), 0);
    RET("fadvise_bad", posix_fadvise(fd, 0, 0, 77), EINVAL);
    OK("readahead", readahead(fd, 0, 4096));
    OK("sync_file_range", sync_file_range(fd, 0, 4096, SYNC_FILE_RANGE_WRITE));
    close(fd);
    int p[2];
    pipe(p);
    ERR("fallocate_pipe", fallocate(p[1], 0, 0, 10), ESPIPE);
    ERR("fsync_pipe", fsync(p[1]), EINVAL);
    close(p[0]);
    close(p[1]);
}

static void shared_offset(void)
{
    char b[8] = { 0 };
    put_file("s", "abcdefgh");
    int fd = open("s", O_RDONLY), copy = dup(fd), other = open("s", O_RDONLY);
    read(fd, b, 3);
    EQ("dup_shares_offset", lseek(copy, 0, SEEK_CUR), 3);
    EQ("open_has_own_offset", lseek(other, 0, SEEK_CUR), 0);
    EQ("fork_child", CHILD({ read(fd, b, 2); }), 0);
    EQ("fork_shares_offset", lseek(fd, 0, SEEK_CUR), 5);
    unlink("s");
    EQ("read_unlinked", pread(fd, b, 8, 0), 8);
    struct stat st;
    fstat(fd, &st);
    EQ("unlinked_nlink", st.st_nlink, 0);
    close(fd);
    close(copy);
    close(other);
    fd = open("big", O_CREAT | O_RDWR, 0644);
    EQ("offset_large", pwrite(fd, "end", 3, 5LL << 30), 3);
    fstat(fd, &st);
    CHECK("size_large", st.st_size == (5LL << 30) + 3);
    EQ("read_large", pread(fd, b, 8, 5LL << 30), 3);
    close(fd);
    unlink("big");
}

int main(void)
{
    basics();
    vectors();
    holes();
    allocate();
    shared_offset();
    DONE();
}
