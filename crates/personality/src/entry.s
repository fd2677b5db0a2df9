# Ways into and out of the personality. All of it runs at CPL3 but for what cormus_syscall_entry does first on
# hardware KVM. `gs` points at the vCPU's VcpuArea: 0 stack_top, 8 entry_rsp,
# 16 entry_rcx, 24 attention.
#
# Below stack_top lie, at fixed places:
#
#   stack_top - 168   Regs, the program's general registers; its last five words are what iretq pops
#   stack_top - 176   a word that keeps the stack aligned to 16
#   stack_top - 432   XMM0 to XMM15
#
# The personality's code is compiled to legacy SSE only and uses no x87, so the upper halves of the
# program's YMM and ZMM registers, its x87 state, MXCSR and mask registers stay where they are.
# `fs` belongs to the program and is never touched on this path.

.section .text.cormus_entry, "ax", @progbits

# Calls `handler(&mut Regs)` with the frame complete and rsp on it, then leaves. A zero rbp ends the
# chain of frame pointers, so that a backtrace does not walk into the program's stack.
.macro handle handler
    leaq    264(%rsp), %rdi
    xorl    %ebp, %ebp
    cld
    call    \handler
    jmp     cormus_exit_start
.endm

# Goes from the program's stack to the vCPU's.
.macro switch_stack
    movq    %rsp, %gs:8
    movq    %gs:0, %rsp
.endm

# Builds the frame of a system call on the vCPU's stack and answers it. gs:8 holds the program's rsp, gs:16 the
# address to return to, r11 the program's rflags.
.macro answer handler
    pushq   ${user_ss}
    pushq   %gs:8
    pushq   %r11
    pushq   ${user_cs}
    pushq   %gs:16
    pushq   %rax
    pushq   %rdi
    pushq   %rsi
    pushq   %rdx
    pushq   %gs:16
    pushq   %rax
    pushq   %r8
    pushq   %r9
    pushq   %r10
    pushq   %r11
    pushq   %rbx
    pushq   %rbp
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    subq    $264, %rsp
    store_xmm %rsp
    handle  \handler
.endm

# Target of `syscall`. On PVM it arrives at CPL3; on hardware KVM at CPL0, from where `sysretq` goes
# on at CPL3.
.globl cormus_syscall_entry
.balign 64
cormus_syscall_entry:
    movq    %rcx, %gs:16
    movl    %cs, %ecx
    testb   $3, %cl
    jz      cormus_syscall_cpl0
cormus_syscall_cpl3:
    switch_stack
    answer  cormus_syscall

# The program's flags must not come back with sysretq: single-stepping or alignment checks would go off here.
.balign 16
cormus_syscall_cpl0:
    movq    %r11, %gs:8
    movl    $0x202, %r11d
    leaq    1f(%rip), %rcx
    sysretq
1:  movq    %gs:8, %r11
    jmp     cormus_syscall_cpl3

# Where the stubs of rewritten system calls lead: rcx holds the address to return to, and the flags are the program's.
.globl cormus_direct_entry
.balign 64
cormus_direct_entry:
    movq    %rcx, %gs:16
    switch_stack
    pushfq
    popq    %r11
    answer  cormus_direct

# The monitor wrote Regs and Upcall and set rsp on the frame.
.globl cormus_upcall_entry
.balign 16
cormus_upcall_entry:
    subq    $264, %rsp
    store_xmm %rsp
    handle  cormus_upcall

# A later thread's first instruction: rsp is on a frame that its maker prepared.
.globl cormus_thread_entry
.balign 16
cormus_thread_entry:
    subq    $264, %rsp
    handle  cormus_thread_start

# The machine's first instruction: rsp is stack_top. The boot code fills the frame of the first program.
.globl cormus_boot_entry
.balign 16
cormus_boot_entry:
    subq    $432, %rsp
    handle  cormus_boot

.macro pop_general
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbp
    popq    %rbx
    popq    %r11
    popq    %r10
    popq    %r9
    popq    %r8
    popq    %rax
    popq    %rcx
    popq    %rdx
    popq    %rsi
    popq    %rdi
.endm

# The way out. Everything is read from the frame and the frame is not written, so the monitor may stop
# a vCPU anywhere here, set attention, and let it begin again at cormus_exit_start. Attention set after
# the test is therefore never missed.
#
# A system call's frame, with rcx = rip and r11 = rflags, leaves by a jump, which takes a third of the
# time of iretq; popf would trap in the personality if the program single-stepped.
.globl cormus_exit_start
.balign 64
cormus_exit_start:
    movq    %gs:0, %rsp
    leaq    -432(%rsp), %rsp
    cmpl    $0, %gs:24
    jne     cormus_exit_attention
    movq    392(%rsp), %rcx
    cmpq    352(%rsp), %rcx
    jne     1f
    movq    408(%rsp), %r11
    cmpq    312(%rsp), %r11
    jne     1f
    testl   $0x100, %r11d
    jnz     1f
    load_xmm %rsp
    pushq   %r11
    popfq
    leaq    264(%rsp), %rsp
    pop_general
    movq    32(%rsp), %rsp
    jmp     *%rcx
1:  load_xmm %rsp
    leaq    264(%rsp), %rsp
    pop_general
    leaq    8(%rsp), %rsp
    iretq
.globl cormus_exit_end
cormus_exit_end:

.balign 16
cormus_exit_attention:
    handle  cormus_attention

# cormus_hypercall(a, b, c, d, e, number): the monitor preserves all registers but rax.
# One byte is written, so that the I/O bitmap has to allow one port only.
.globl cormus_hypercall
.balign 16
cormus_hypercall:
    movq    %rcx, %r10
    movq    %r9, %rax
.globl cormus_hypercall_restart
cormus_hypercall_restart:
    nop
    outb    %al, ${port}
.globl cormus_hypercall_return
cormus_hypercall_return:
    ret
