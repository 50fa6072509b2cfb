package redact

import "golang.org/x/sys/cpu"

// candidateAVX2 returns the index of the first byte of src[i:] that n takes for
// the second of a pair, len(src) if there is none, or -1 if src is too close to the
// end of a page to be read 32 bytes at a time. i is at least 1.
//
//go:noescape
func candidateAVX2(n *nibbles, src []byte, i int) int

// candidate returns the index of the first byte of src[i:] at which, with the byte
// before it, a secret can be recognised, or len(src). i is at least 1.
func (t *tokenTable) candidate(src []byte, i int) int {
	if !cpu.X86.HasAVX2 {
		return t.candidateByByte(src, i)
	}
	for {
		j := candidateAVX2(&t.nibbles, src, i)
		if j < 0 {
			return t.candidateByByte(src, i)
		}
		// What the nibbles say of bytes is too much, never too little.
		if j == len(src) || t.first[src[j-1]]&t.second[src[j]] != 0 {
			return j
		}
		i = j + 1
	}
}
