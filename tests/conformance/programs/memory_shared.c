/* Memory between processes: shared anonymous, files, POSIX and SysV objects, fork copies. */
#include "check.h"
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define PAGE 4096UL

static void forked(void)
{
    volatile char *private = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile char *shared = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static volatile char data = 'd';
    volatile char stack = 's';
    private[0] = 'p';
    EQ("child", CHILD({
        EQ("child_sees_private", private[0], 'p');
        EQ("child_data", data, 'd');
        EQ("child_stack", stack, 's');
        private[0] = data = stack = 'c';
        shared[0] = 'c';
        shared[PAGE] = 'C';
    }), 0);
    CHECK("private_kept", private[0] == 'p' && data == 'd' && stack == 's');
    CHECK("shared_written", shared[0] == 'c' && shared[PAGE] == 'C');
    /* Both sides at once. */
    pid_t pid = fork();
    if (pid == 0) {
        while (shared[1] != 1)
            ;
        shared[2] = private[0] == 'p' ? 2 : 3;
        _exit(0);
    }
    private[0] = 'q';
    shared[1] = 1;
    while (shared[2] == 0)
        ;
    EQ("child_keeps_its_copy", shared[2], 2);
    reap(pid);
    /* Grandchildren: what was dirtied between the forks is right. */
    EQ("generations", CHILD({
        private[1] = 1;
        EQ("grandchild", CHILD({
            CHECK("grandchild_sees", private[0] == 'q' && private[1] == 1);
            private[1] = 2;
            shared[3] = 7;
        }), 0);
        EQ("child_unchanged", private[1], 1);
    }), 0);
    CHECK("parent_unchanged", private[1] == 0 && shared[3] == 7);
    bool good = true;
    for (int i = 0; i < 30; i++) {
        private[PAGE + i] = i;
        int r = CHILD({ if (private[PAGE + i] != i || private[PAGE + i + 1]) _exit(1); private[PAGE + i + 1] = 99; });
        good &= r == 0 && private[PAGE + i + 1] == 0;
    }
    CHECK("thirty_forks", good);
    munmap((void *)shared, 2 * PAGE);
}

static void posix_objects(void)
{
    shm_unlink("/conform-shm");
    int fd = OK("shm_open", shm_open("/conform-shm", O_CREAT | O_EXCL | O_RDWR, 0600));
    ERR("shm_exists", shm_open("/conform-shm", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
    ftruncate(fd, PAGE);
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EQ("shm_child", CHILD({
        int own = shm_open("/conform-shm", O_RDWR, 0);
        char *q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
        strcpy(q, "from child");
    }), 0);
    TEXT("shm_text", p, "from child");
    OK("shm_unlink", shm_unlink("/conform-shm"));
    ERR("shm_gone", shm_open("/conform-shm", O_RDWR, 0), ENOENT);
    p[0] = 'F';
    EQ("shm_still_mapped", p[0], 'F');
    sem_unlink("/conform-sem");
    sem_t *sem = sem_open("/conform-sem", O_CREAT | O_EXCL, 0600, 0);
    CHECK("sem_open", sem != SEM_FAILED);
    pid_t pid = fork();
    if (pid == 0) {
        sem_t *own = sem_open("/conform-sem", 0);
        sem_post(own);
        _exit(0);
    }
    OK("sem_wait", sem_wait(sem));
    reap(pid);
    ERR("sem_trywait", sem_trywait(sem), EAGAIN);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 10000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    ERR("sem_timedwait", sem_timedwait(sem, &t), ETIMEDOUT);
    sem_close(sem);
    OK("sem_unlink", sem_unlink("/conform-sem"));
    sem_t *unnamed = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sem_init(unnamed, 1, 0);
    pid = fork();
    if (pid == 0) {
        nap_ms(10);
        sem_post(unnamed);
        _exit(0);
    }
    OK("sem_shared", sem_wait(unnamed));
    reap(pid);
}

static void sysv_memory(void)
{
    struct shmid_ds ds;
    int id = OK("shmget", shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600));
    char *p = shmat(id, NULL, 0);
    CHECK("shmat", p != (void *)-1 && p[0] == 0);
    OK("shm_stat", shmctl(id, IPC_STAT, &ds));
    CHECK("shm_size", ds.shm_segsz == 10000 && ds.shm_nattch == 1 && ds.shm_cpid == getpid());
    EQ("shmat_child", CHILD({
        char *q = shmat(id, NULL, 0);
        CHECK("shmat_second", q != p);
        q[9999] = 'z';
        p[0] = 'y';
    }), 0);
    CHECK("shm_shared", p[9999] == 'z' && p[0] == 'y');
    char *ro = shmat(id, NULL, SHM_RDONLY);
    EQ("shm_read_only", ro[9999], 'z');
    EQ("shm_read_only_write", CHILD({ *(volatile char *)ro = 1; }), 1000 + SIGSEGV);
    OK("shmdt", shmdt(ro));
    ERR("shmdt_twice", shmdt(ro), EINVAL);
    OK("shm_rmid", shmctl(id, IPC_RMID, NULL));
    EQ("shm_after_rmid", p[9999], 'z');
    OK("shmdt_last", shmdt(p));
    ERR("shm_gone_id", shmctl(id, IPC_STAT, &ds), EINVAL);
    ERR("shmat_gone", (long)shmat(id, NULL, 0), EINVAL);
    key_t key = 0x43ab1234;
    id = shmget(key, PAGE, IPC_CREAT | 0600);
    EQ("shm_by_key", shmget(key, PAGE, 0), id);
    ERR("shm_excl", shmget(key, PAGE, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    ERR("shm_bigger", shmget(key, 100 * PAGE, 0), EINVAL);
    shmctl(id, IPC_RMID, NULL);
    ERR("shm_key_gone", shmget(key, PAGE, 0), ENOENT);
    ERR("shm_zero", shmget(IPC_PRIVATE, 0, 0600), EINVAL);
}

static int operate(int id, int number, int operation, int flags)
{
    struct sembuf b = { number, operation, flags };
    return semop(id, &b, 1);
}

static void sysv_semaphores(void)
{
    int id = OK("semget", semget(IPC_PRIVATE, 3, IPC_CREAT | 0600));
    unsigned short values[3] = { 1, 2, 3 };
    OK("setall", semctl(id, 0, SETALL, values));
    EQ("getval", semctl(id, 2, GETVAL), 3);
    OK("semop", operate(id, 2, -2, 0));
    EQ("semop_value", semctl(id, 2, GETVAL), 1);
    ERR("semop_nowait", operate(id, 2, -2, IPC_NOWAIT), EAGAIN);
    ERR("zero_nowait", operate(id, 2, 0, IPC_NOWAIT), EAGAIN);
    struct sembuf both[2] = { { 0, -1, 0 }, { 1, -5, IPC_NOWAIT } };
    ERR("all_or_nothing", semop(id, both, 2), EAGAIN);
    EQ("nothing_done", semctl(id, 0, GETVAL), 1);
    EQ("undo_child", CHILD({ operate(id, 0, -1, SEM_UNDO); }), 0);
    EQ("undone", semctl(id, 0, GETVAL), 1);
    pid_t pid = fork();
    if (pid == 0)
        _exit(operate(id, 1, -5, 0) == 0 ? 4 : 5);
    while (semctl(id, 1, GETNCNT) == 0)
        nap_ms(1);
    operate(id, 1, 3, 0);
    EQ("waiter_woken", reap(pid), 4);
    EQ("waiter_took", semctl(id, 1, GETVAL), 0);
    EQ("last_pid", semctl(id, 1, GETPID), pid);
    pid = fork();
    if (pid == 0)
        _exit(operate(id, 1, -1, 0) == -1 && errno == EIDRM ? 4 : 5);
    while (semctl(id, 1, GETNCNT) == 0)
        nap_ms(1);
    OK("sem_rmid", semctl(id, 0, IPC_RMID));
    EQ("waiter_eidrm", reap(pid), 4);
    ERR("semop_gone", operate(id, 0, 1, 0), EINVAL);
    id = semget(IPC_PRIVATE, 1, 0600);
    ERR("sem_number", operate(id, 5, 1, 0), EFBIG);
    ERR("sem_range", semctl(id, 0, SETVAL, 100000), ERANGE);
    struct timespec t = { 0, 5000000 };
    struct sembuf b = { 0, -1, 0 };
    ERR("semtimedop", semtimedop(id, &b, 1, &t), EAGAIN);
    semctl(id, 0, IPC_RMID);
}

static void sysv_messages(void)
{
    struct { long type; char text[32]; } m = { 2, "two" };
    int id = OK("msgget", msgget(IPC_PRIVATE, 0600));
    OK("msgsnd", msgsnd(id, &m, 4, 0));
    m.type = 1;
    strcpy(m.text, "one");
    msgsnd(id, &m, 4, 0);
    struct msqid_ds ds;
    msgctl(id, IPC_STAT, &ds);
    EQ("msg_count", ds.msg_qnum, 2);
    EQ("msgrcv_type", msgrcv(id, &m, 32, 1, 0), 4);
    TEXT("msgrcv_text", m.text, "one");
    ERR("msgrcv_none", msgrcv(id, &m, 32, 1, IPC_NOWAIT), ENOMSG);
    ERR("msgrcv_small", msgrcv(id, &m, 2, 0, 0), E2BIG);
    EQ("msgrcv_cut", msgrcv(id, &m, 2, 0, MSG_NOERROR), 2);
    m.type = 0;
    ERR("msgsnd_type", msgsnd(id, &m, 4, 0), EINVAL);
    m.type = 9;
    msgsnd(id, &m, 4, 0);
    EQ("msgrcv_except", msgrcv(id, &m, 32, 3, MSG_EXCEPT), 4);
    m.type = 5;
    msgsnd(id, &m, 4, 0);
    m.type = 4;
    msgsnd(id, &m, 4, 0);
    msgrcv(id, &m, 32, -10, 0);
    EQ("msgrcv_lowest", m.type, 4);
    pid_t pid = fork();
    if (pid == 0)
        _exit(msgrcv(id, &m, 32, 77, 0) == 4 ? 6 : 7);
    nap_ms(10);
    m.type = 77;
    msgsnd(id, &m, 4, 0);
    EQ("msgrcv_waits", reap(pid), 6);
    OK("msg_rmid", msgctl(id, IPC_RMID, NULL));
    ERR("msg_gone", msgsnd(id, &m, 4, 0), EINVAL);
}

int main(void)
{
    forked();
    posix_objects();
    sysv_memory();
    sysv_semaphores();
    sysv_messages();
    DONE();
}
