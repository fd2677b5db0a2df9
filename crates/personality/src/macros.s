# XMM0 to XMM15 to and from memory at a register, by legacy moves that leave the upper halves alone.

.macro store_xmm base
    movaps  %xmm0, 0(\base)
    movaps  %xmm1, 16(\base)
    movaps  %xmm2, 32(\base)
    movaps  %xmm3, 48(\base)
    movaps  %xmm4, 64(\base)
    movaps  %xmm5, 80(\base)
    movaps  %xmm6, 96(\base)
    movaps  %xmm7, 112(\base)
    movaps  %xmm8, 128(\base)
    movaps  %xmm9, 144(\base)
    movaps  %xmm10, 160(\base)
    movaps  %xmm11, 176(\base)
    movaps  %xmm12, 192(\base)
    movaps  %xmm13, 208(\base)
    movaps  %xmm14, 224(\base)
    movaps  %xmm15, 240(\base)
.endm

.macro load_xmm base
    movaps  0(\base), %xmm0
    movaps  16(\base), %xmm1
    movaps  32(\base), %xmm2
    movaps  48(\base), %xmm3
    movaps  64(\base), %xmm4
    movaps  80(\base), %xmm5
    movaps  96(\base), %xmm6
    movaps  112(\base), %xmm7
    movaps  128(\base), %xmm8
    movaps  144(\base), %xmm9
    movaps  160(\base), %xmm10
    movaps  176(\base), %xmm11
    movaps  192(\base), %xmm12
    movaps  208(\base), %xmm13
    movaps  224(\base), %xmm14
    movaps  240(\base), %xmm15
.endm

