#include "textflag.h"

// func candidateAVX2(n *nibbles, src []byte, i int) int
//
// Y4 to Y7 hold the rows of n, Y8 the low nibble of each byte, Y9 zeros. For 32
// bytes at src[i] and the 32 before them by one, pshufb turns each nibble into the
// pairs that it can be part of; what is left of their AND are candidates.
TEXT ·candidateAVX2(SB), NOSPLIT, $0-48
	MOVQ n+0(FP), AX
	MOVQ src_base+8(FP), SI
	MOVQ src_len+16(FP), CX
	MOVQ i+32(FP), DX
	VBROADCASTI128 0(AX), Y4
	VBROADCASTI128 16(AX), Y5
	VBROADCASTI128 32(AX), Y6
	VBROADCASTI128 48(AX), Y7
	MOVQ $0x0f0f0f0f0f0f0f0f, BX
	VMOVQ BX, X8
	VPBROADCASTQ X8, Y8
	VPXOR Y9, Y9, Y9

block:
	MOVQ CX, R8
	SUBQ DX, R8             // bytes left
	JLE  none
	CMPQ R8, $32
	JLT  tail
	MOVQ $-1, R9            // bits of the window that count
	LEAQ (SI)(DX*1), DI
	JMP  match

tail:
	// The bytes after the text are read, too, unless they may be on another page,
	// where a read could fault; then the window ends with the text.
	LEAQ (SI)(DX*1), DI
	LEAQ -1(DI), R10
	ANDQ $4095, R10
	CMPQ R10, $(4096-33)
	JGT  cross
	MOVQ R8, CX             // fewer than 32
	MOVQ $1, R9
	SHLQ CX, R9
	DECQ R9
	MOVQ src_len+16(FP), CX
	JMP  match

cross:
	CMPQ CX, $33
	JLT  unread
	LEAQ -32(SI)(CX*1), DI  // the last 32 bytes; what is before src[i] was looked at
	MOVQ DI, R10
	SUBQ SI, R10            // index of the window
	MOVQ CX, R11
	MOVQ DX, CX
	SUBQ R10, CX
	MOVQ $-1, R9
	SHLQ CX, R9
	MOVQ R11, CX
	MOVQ R10, DX

match:
	VMOVDQU -1(DI), Y0
	VMOVDQU 0(DI), Y1
	VPAND   Y8, Y0, Y2
	VPSRLW  $4, Y0, Y0
	VPAND   Y8, Y0, Y0
	VPSHUFB Y2, Y4, Y2
	VPSHUFB Y0, Y5, Y0
	VPAND   Y8, Y1, Y3
	VPSRLW  $4, Y1, Y1
	VPAND   Y8, Y1, Y1
	VPSHUFB Y3, Y6, Y3
	VPSHUFB Y1, Y7, Y1
	VPAND   Y0, Y2, Y0
	VPAND   Y1, Y3, Y1
	VPAND   Y0, Y1, Y0
	VPCMPEQB Y9, Y0, Y0
	VPMOVMSKB Y0, R10
	NOTL    R10
	ANDL    R9, R10
	JNE     found
	ADDQ    $32, DX
	JMP     block

found:
	BSFL R10, R10
	ADDQ R10, DX
	VZEROUPPER
	MOVQ DX, ret+40(FP)
	RET

none:
	VZEROUPPER
	MOVQ CX, ret+40(FP)
	RET

unread:
	VZEROUPPER
	MOVQ $-1, ret+40(FP)
	RET
