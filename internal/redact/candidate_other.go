//go:build !amd64

package redact

// candidate returns the index of the first byte of src[i:] at which, with the byte
// before it, a secret can be recognised, or len(src). i is at least 1.
func (t *tokenTable) candidate(src []byte, i int) int { return t.candidateByByte(src, i) }
