# The only code that touches the program's memory. A fault in a range between a `_begin` and an `_end`
# label continues at the `_fault` label of the same name, with all registers as they were. None of these
# ranges has anything on the stack but the return address.

.section .text.cormus_user, "ax", @progbits

# cormus_user_copy(to, from, len) -> bytes not copied. Whole words first; a fault among them is retried
# by bytes, so that the count is exact.
.globl cormus_user_copy
.balign 32
cormus_user_copy:
    movq    %rdx, %rcx
    cmpq    $128, %rcx
    jae     cormus_user_many
    cmpq    $8, %rcx
    jb      cormus_user_words_end
.globl cormus_user_words_begin
cormus_user_words_begin:
    movq    (%rsi), %rax
    movq    %rax, (%rdi)
    addq    $8, %rsi
    addq    $8, %rdi
    subq    $8, %rcx
    cmpq    $8, %rcx
    jae     cormus_user_words_begin
.globl cormus_user_words_end
cormus_user_words_end:
.globl cormus_user_words_fault
cormus_user_words_fault:
    testq   %rcx, %rcx
    jz      cormus_user_bytes_fault
.globl cormus_user_bytes_begin
cormus_user_bytes_begin:
    movb    (%rsi), %al
    movb    %al, (%rdi)
    incq    %rsi
    incq    %rdi
    decq    %rcx
    jnz     cormus_user_bytes_begin
    xorl    %eax, %eax
    ret
cormus_user_many:
    rep movsb
    xorl    %eax, %eax
    ret

# cormus_user_zero(to, len) -> bytes not zeroed.
.globl cormus_user_zero
cormus_user_zero:
    movq    %rsi, %rcx
    xorl    %eax, %eax
    rep stosb
    ret
.globl cormus_user_bytes_end
cormus_user_bytes_end:
.globl cormus_user_bytes_fault
cormus_user_bytes_fault:
    movq    %rcx, %rax
    ret

# What follows returns -1 when it faults, and otherwise a value that is never -1 as 64 bits.
.globl cormus_user_simple_begin
cormus_user_simple_begin:

# cormus_user_load(address) -> the 32-bit word.
.globl cormus_user_load
.balign 16
cormus_user_load:
    movl    (%rdi), %eax
    ret

# cormus_user_compare_exchange(address, old, new) -> the word before.
.globl cormus_user_compare_exchange
.balign 16
cormus_user_compare_exchange:
    movl    %esi, %eax
    lock cmpxchgl %edx, (%rdi)
    movl    %eax, %eax
    ret

# cormus_user_exchange(address, new) -> the word before.
.globl cormus_user_exchange
.balign 16
cormus_user_exchange:
    movl    %esi, %eax
    xchgl   %eax, (%rdi)
    ret

# cormus_user_add(address, operand) -> the word before.
.globl cormus_user_add
.balign 16
cormus_user_add:
    movl    %esi, %eax
    lock xaddl %eax, (%rdi)
    ret

# cormus_user_or, _and, _xor(address, operand) -> the word before.
.macro user_operation name instruction
.globl \name
.balign 16
\name:
    movl    (%rdi), %eax
1:  movl    %eax, %edx
    \instruction %esi, %edx
    lock cmpxchgl %edx, (%rdi)
    jne     1b
    movl    %eax, %eax
    ret
.endm
user_operation cormus_user_or orl
user_operation cormus_user_and andl
user_operation cormus_user_xor xorl

# cormus_user_xsave(to, components, xmm) -> 0: the program's extended state. XMM0-15 are those that the
# entry saved at `xmm`; all else still stands in the registers.
.globl cormus_user_xsave
.balign 16
cormus_user_xsave:
    movq    %rdx, %rcx
    load_xmm %rcx
    movl    %esi, %eax
    movq    %rsi, %rdx
    shrq    $32, %rdx
    xsave64 (%rdi)
    xorl    %eax, %eax
    ret

# cormus_user_xrstor(from, components, xmm) -> 0: the reverse. An image that the processor refuses is a fault.
.globl cormus_user_xrstor
.balign 16
cormus_user_xrstor:
    movq    %rdx, %rcx
    movl    %esi, %eax
    movq    %rsi, %rdx
    shrq    $32, %rdx
    xrstor64 (%rdi)
    store_xmm %rcx
    xorl    %eax, %eax
    ret

.globl cormus_user_simple_end
cormus_user_simple_end:
.globl cormus_user_simple_fault
cormus_user_simple_fault:
    movq    $-1, %rax
    ret
