# The memory functions of a C library. Small sizes are done by pairs of moves that may overlap, large ones
# by the string instructions.

.section .text.cormus_memory, "ax", @progbits

# cormus_memmove(to, from, len): all small cases load everything before they store anything, so that overlap
# does not matter; only a large move towards higher, overlapping addresses goes backwards.
.globl cormus_memmove
.balign 32
cormus_memmove:
    movq    %rdi, %rax
    cmpq    $16, %rdx
    jb      2f
    cmpq    $32, %rdx
    ja      3f
    movups  (%rsi), %xmm0
    movups  -16(%rsi,%rdx), %xmm1
    movups  %xmm0, (%rdi)
    movups  %xmm1, -16(%rdi,%rdx)
    ret
2:  cmpl    $8, %edx
    jb      1f
    movq    (%rsi), %rcx
    movq    -8(%rsi,%rdx), %r8
    movq    %rcx, (%rdi)
    movq    %r8, -8(%rdi,%rdx)
    ret
1:  cmpl    $4, %edx
    jb      1f
    movl    (%rsi), %ecx
    movl    -4(%rsi,%rdx), %r8d
    movl    %ecx, (%rdi)
    movl    %r8d, -4(%rdi,%rdx)
    ret
1:  testl   %edx, %edx
    jz      1f
    movzbl  (%rsi), %ecx
    movzbl  -1(%rsi,%rdx), %r8d
    cmpl    $2, %edx
    jbe     2f
    movzbl  1(%rsi), %r9d
    movb    %r9b, 1(%rdi)
2:  movb    %cl, (%rdi)
    movb    %r8b, -1(%rdi,%rdx)
1:  ret
3:  cmpq    $64, %rdx
    ja      4f
    movups  (%rsi), %xmm0
    movups  16(%rsi), %xmm1
    movups  -32(%rsi,%rdx), %xmm2
    movups  -16(%rsi,%rdx), %xmm3
    movups  %xmm0, (%rdi)
    movups  %xmm1, 16(%rdi)
    movups  %xmm2, -32(%rdi,%rdx)
    movups  %xmm3, -16(%rdi,%rdx)
    ret
4:  movq    %rdi, %rcx
    subq    %rsi, %rcx
    cmpq    %rdx, %rcx
    jb      6f
    cmpq    $512, %rdx
    jae     7f
    # Forwards: the last 16 bytes are loaded first and stored last.
    movups  -16(%rsi,%rdx), %xmm1
    leaq    -16(%rdi,%rdx), %r8
5:  movups  (%rsi), %xmm0
    movups  %xmm0, (%rdi)
    addq    $16, %rsi
    addq    $16, %rdi
    cmpq    %r8, %rdi
    jb      5b
    movups  %xmm1, (%r8)
    ret
    # Backwards: the first 16 bytes are loaded first and stored last.
6:  movups  (%rsi), %xmm1
    leaq    -16(%rdx), %rcx
5:  movups  (%rsi,%rcx), %xmm0
    movups  %xmm0, (%rdi,%rcx)
    subq    $16, %rcx
    ja      5b
    movups  %xmm1, (%rdi)
    ret
7:  movq    %rdx, %rcx
    rep movsb
    ret

# cormus_memset(to, byte, len)
.globl cormus_memset
.balign 32
cormus_memset:
    movq    %rdi, %r9
    movzbl  %sil, %eax
    movq    $0x0101010101010101, %rcx
    imulq   %rcx, %rax
    cmpq    $16, %rdx
    jb      2f
    cmpq    $256, %rdx
    jae     3f
    movq    %rax, %xmm0
    punpcklqdq %xmm0, %xmm0
    leaq    -16(%rdi,%rdx), %r8
1:  movups  %xmm0, (%rdi)
    addq    $16, %rdi
    cmpq    %r8, %rdi
    jb      1b
    movups  %xmm0, (%r8)
    movq    %r9, %rax
    ret
2:  cmpl    $8, %edx
    jb      2f
    movq    %rax, (%rdi)
    movq    %rax, -8(%rdi,%rdx)
    movq    %r9, %rax
    ret
2:  testl   %edx, %edx
    jz      4f
1:  movb    %al, (%rdi)
    incq    %rdi
    decl    %edx
    jnz     1b
4:  movq    %r9, %rax
    ret
3:  movq    %rdx, %rcx
    rep stosb
    movq    %r9, %rax
    ret

# cormus_memcmp(a, b, len): below, equal to or above 0 as the first bytes that differ are.
.globl cormus_memcmp
.balign 32
cormus_memcmp:
    xorl    %ecx, %ecx
1:  leaq    8(%rcx), %r8
    cmpq    %rdx, %r8
    ja      2f
    movq    (%rdi,%rcx), %rax
    movq    (%rsi,%rcx), %r9
    cmpq    %r9, %rax
    jne     3f
    movq    %r8, %rcx
    jmp     1b
2:  cmpq    %rdx, %rcx
    jae     4f
    movzbl  (%rdi,%rcx), %eax
    movzbl  (%rsi,%rcx), %r9d
    incq    %rcx
    subl    %r9d, %eax
    jz      2b
    ret
    # The first byte that differs decides: it is the highest one of the swapped words.
3:  bswapq  %rax
    bswapq  %r9
    cmpq    %r9, %rax
    sbbl    %eax, %eax
    orl     $1, %eax
    ret
4:  xorl    %eax, %eax
    ret
