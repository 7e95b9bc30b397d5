/*
 * Preloaded into linux.uml: lets it set floating point registers on processors with a larger state than it knows.
 *
 * User Mode Linux 6.1 reads and writes the extended state (NT_X86_XSTATE) in a buffer of 2696 bytes. Reading less
 * than there is works, but the host's kernel takes nothing but the whole state (11008 bytes with AMX) and answers
 * EFAULT, on which the guest's first process is killed. What the guest does not know stays as it is.
 */
enum { SYS_PTRACE = 101, GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202, EFAULT_ = 14, AREA = 65536 };

struct iovec_ { void *base; unsigned long length; };

extern int *__errno_location(void);

static char area[AREA] __attribute__((aligned(64)));

static long call(long request, long pid, void *address, void *data) {
    long result;
    register void *fourth __asm__("r10") = data;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_PTRACE), "D"(request), "S"(pid), "d"(address), "r"(fourth)
                     : "rcx", "r11", "memory");
    return result;
}

static long set_whole_state(long pid, const struct iovec_ *known) {
    struct iovec_ whole = {area, AREA};
    long result = call(GETREGSET, pid, (void *)XSTATE, &whole);
    if (result < 0 || known->length > whole.length)
        return result < 0 ? result : -EFAULT_;
    for (unsigned long i = 0; i < known->length; i++)
        area[i] = ((const char *)known->base)[i];
    return call(SETREGSET, pid, (void *)XSTATE, &whole);
}

long ptrace(long request, long pid, void *address, void *data) {
    int peeks = request >= 1 && request <= 3; /* PEEKTEXT, PEEKDATA, PEEKUSER: the C library returns the word */
    long word = 0;
    long result = call(request, pid, address, peeks ? &word : data);
    if (result == -EFAULT_ && request == SETREGSET && address == (void *)XSTATE)
        result = set_whole_state(pid, data);
    if (result < 0) {
        *__errno_location() = (int)-result;
        return -1;
    }
    if (peeks)
        *__errno_location() = 0;
    return peeks ? word : result;
}
