package redact

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCandidate compares the fast search with the simple one, on texts of every
// length that lie at every place of a page and end where reading on would fault.
func TestCandidate(t *testing.T) {
	page := unix.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	if err := unix.Mprotect(mem[page:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	table := newTokenTable()
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	const alphabet = "abcxyzABCJ019 ==::--__..\\u/$2\"\x80\xff"
	found := 0
	for length := range 150 {
		for _, end := range []int{page, page - 1, page - 31, page - 32, page - 33, page / 2} {
			for range 20 {
				text := mem[end-length : end]
				for i := range text {
					text[i] = 'q'
				}
				for range random.IntN(4) {
					if length > 0 {
						text[random.IntN(length)] = alphabet[random.IntN(len(alphabet))]
					}
				}
				copy(mem[end:page], bytes.Repeat([]byte("=:"), page)) // behind the text: not to be found
				for i := 1; i <= length; i++ {
					want := table.candidateByByte(text, i)
					if got := table.candidate(text, i); got != want {
						t.Fatalf("%q from %d, %d bytes before the end of a page: %d, want %d", text, i, page-end, got, want)
					}
					if want < length {
						found++
					}
				}
			}
		}
	}
	if found == 0 {
		t.Error("no text has a candidate")
	}
}

// TestCandidatePairs: every pair is found, whatever the nibbles of others.
func TestCandidatePairs(t *testing.T) {
	table := newTokenTable()
	pairs := 0
	for a := range 256 {
		for b := range 256 {
			text := append(bytes.Repeat([]byte("q"), 20), byte(a), byte(b))
			want := len(text)
			if a == '=' || a == ':' {
				want = 20
			} else if table.first[a]&table.second[b] != 0 {
				want = 21
				pairs++
			}
			for _, rest := range []int{0, 40} {
				if got := min(table.candidate(append(text, bytes.Repeat([]byte("q"), rest)...), 1), len(text)); got != want {
					t.Errorf("%q: %d, want %d", text, got, want)
				}
			}
		}
	}
	if pairs < 500 || pairs > 700 {
		t.Errorf("%d pairs are candidates: two for each first byte, and some more", pairs)
	}
}
