package syslog

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sidecar/internal/budget"
)

// cut feeds a stream in pieces of size octets to frames, and checks what must always
// hold: no message above the limit, bounded memory.
func cut(framing Framing, max int, stream []byte, size int) ([]string, *frames) {
	f := newFrames(framing, max, budget.New(0))
	var got []string
	for len(stream) > 0 {
		space, err := f.space(context.Background())
		if err != nil {
			panic(err) // nobody else has any memory
		}
		n := copy(space[:min(len(space), size)], stream)
		stream = stream[n:]
		f.wrote(n)
		for m, ok := f.next(); ok; m, ok = f.next() {
			got = append(got, string(m))
		}
	}
	if m := f.end(); len(m) > 0 {
		got = append(got, string(m))
	}
	return got, f
}

func TestFrames(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct {
		name    string
		framing Framing
		in      string
		want    []string
		stats   frameStats
	}{
		{"lines", Auto, "<1>a\n<2>b\r\n\n\n<3>c", []string{"<1>a", "<2>b", "<3>c"}, frameStats{}},
		{"counts", Auto, "4 <1>a5 <2>bb6 <3>c\n\n4 <4>d", []string{"<1>a", "<2>bb", "<3>c", "<4>d"}, frameStats{}},
		{"newline behind the counted message", Auto, "4 <1>a\n4 <2>b\r\n", []string{"<1>a", "<2>b"}, frameStats{}},
		{"newline inside of it", Auto, "7 <1>a\nbc4 <2>b", []string{"<1>a\nbc", "<2>b"}, frameStats{}},
		{"lines without PRI", Auto, "2026 was\n12 monkeys\n7\n", []string{"2026 was", "12 monkeys", "7"}, frameStats{}},
		{"a count behind lines without PRI", Auto, "tail of a message\n4 <1>a4 <2>b", []string{"tail of a message", "<1>a", "<2>b"}, frameStats{}},
		{"a count behind lines with PRI is text", Auto, "<1>a\n4 <1>b\n", []string{"<1>a", "4 <1>b"}, frameStats{}},
		{"newline framing when told", NonTransparent, "4 <1>a\n4 <1>b\n", []string{"4 <1>a", "4 <1>b"}, frameStats{}},
		{"counts without PRI when told", OctetCounting, "5 hello3 you", []string{"hello", "you"}, frameStats{}},
		{"count too small", Auto, "4 <1>a5 <2>bbXX\n4 <3>c", []string{"<1>a", "<2>bb", "XX", "<3>c"}, frameStats{resyncs: 1}},
		{"count too small, no newline", Auto, "4 <1>a4 <2>bXX5 <3>cc4 <4>d", []string{"<1>a", "<2>b", "XX", "<3>cc", "<4>d"}, frameStats{resyncs: 1}},
		{"count too large", Auto, "4 <1>a9 <2>b4 <3>c4 <4>d5 <5>ee", []string{"<1>a", "<2>b4 <3>", "c", "<4>d", "<5>ee"}, frameStats{resyncs: 1}},
		{"absurd count", Auto, "4 <1>a99999999 <2>b\n4 <3>c", []string{"<1>a", "99999999 <2>b", "<3>c"}, frameStats{resyncs: 1}},
		{"count of zero", OctetCounting, "0 <1>a\n4 <3>c", []string{"0 <1>a", "<3>c"}, frameStats{resyncs: 1}},
		{"count with a zero in front", OctetCounting, "04 <1>a\n4 <3>c", []string{"04 <1>a", "<3>c"}, frameStats{resyncs: 1}},
		{"ends inside of a counted message", Auto, "4 <1>a50 <2>bcd", []string{"<1>a", "<2>bcd"}, frameStats{cut: 1}},
		{"ends inside of a count", Auto, "4 <1>a50", []string{"<1>a", "50"}, frameStats{}},
		{"long line", Auto, "<1>" + long + "\n<2>b\n", []string{"<1>" + long[:37], "<2>b"}, frameStats{cut: 1, cutBytes: 63}},
		{"line of the limit", Auto, "<1>" + long[:37] + "\r\n<2>b\n", []string{"<1>" + long[:37], "<2>b"}, frameStats{}},
		{"line above the limit", Auto, "<1>" + long[:38] + "\n<2>b\n", []string{"<1>" + long[:37], "<2>b"}, frameStats{cut: 1, cutBytes: 1}},
		{"long counted message", Auto, "103 <1>" + long + "4 <2>b", []string{"<1>" + long[:37], "<2>b"}, frameStats{cut: 1, cutBytes: 63}},
		{"garbage in front of a count", OctetCounting, "4 <1>a" + long + "4 <2>b", []string{"<1>a", long[:40], "<2>b"}, frameStats{cut: 1, cutBytes: 60, resyncs: 1}},
		{"NUL", Auto, "<1>a\x00b\x00\n", []string{"<1>a\x00b"}, frameStats{}},
		{"only ends", Auto, "\n\r\n\x00\n", nil, frameStats{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				got, f := cut(c.framing, 40, []byte(c.in), size)
				if !slices.Equal(got, c.want) {
					t.Errorf("in pieces of %d:\n got %q\nwant %q", size, got, c.want)
				}
				if f.stats != c.stats {
					t.Errorf("in pieces of %d: %+v, want %+v", size, f.stats, c.stats)
				}
			}
		})
	}
}

// TestRow30AGigabyteWithoutANewline needs the memory of one message, whether its octets
// are a line, have a count, or come where a count should.
func TestRow30AGigabyteWithoutANewline(t *testing.T) {
	const total, limit = 1 << 30, 64 << 10
	for name, begin := range map[string]string{"line": "<1>", "counted": "9999999 <1>", "garbage": "4 <1>a"} {
		shared := budget.New(0)
		f := newFrames(Auto, limit, shared)
		fed, messages := 0, 0
		for fed < total {
			space, err := f.space(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for n := copy(space, "x"); n < len(space); n *= 2 {
				copy(space[n:], space[:n])
			}
			if fed == 0 {
				copy(space, begin)
			}
			f.wrote(len(space))
			fed += len(space)
			for m, ok := f.next(); ok; m, ok = f.next() {
				messages++
				if len(m) > limit {
					t.Fatalf("%s: message of %d bytes", name, len(m))
				}
			}
			if n := max(shared.Stats().Claimed, len(space)); n > 4*limit {
				t.Fatalf("%s: %d bytes", name, n)
			}
		}
		if messages == 0 || messages > 3 || f.stats.cutBytes < total-4*limit {
			t.Errorf("%s: %d messages, %+v", name, messages, f.stats)
		}
	}
}

func TestParseFraming(t *testing.T) {
	for name, want := range map[string]Framing{"auto": Auto, "octet": OctetCounting, "newline": NonTransparent} {
		if got, err := ParseFraming(name); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := ParseFraming("lines"); err == nil {
		t.Error("no error for a framing that does not exist")
	}
}

// FuzzFrames: however a stream comes in pieces, it gives the same messages in
// their order, none above the limit.
func FuzzFrames(f *testing.F) {
	for _, s := range []string{"<1>a\n<2>b", "4 <1>a5 <2>bb", "4 <1>aXX4 <2>b", "99 <1>a", strings.Repeat("y", 90) + "\n3 <1>"} {
		f.Add([]byte(s), byte(0), byte(3))
	}
	f.Fuzz(func(t *testing.T, stream []byte, framing, size byte) {
		fr := Framing(framing % 3)
		whole, a := cut(fr, 40, stream, 1<<20)
		pieces, b := cut(fr, 40, stream, int(size)+1)
		if !slices.Equal(whole, pieces) {
			t.Fatalf("whole:  %q\npieces: %q", whole, pieces)
		}
		if a.stats != b.stats {
			t.Fatalf("whole %+v, pieces %+v", a.stats, b.stats)
		}
		rest := stream
		for _, m := range whole {
			if len(m) > 40 || len(m) == 0 {
				t.Fatalf("message of %d octets", len(m))
			}
			i := bytes.Index(rest, []byte(m))
			if i < 0 {
				t.Fatalf("%q is not in %q", m, rest)
			}
			rest = rest[i+len(m):]
		}
	})
}

// FuzzCounted: any messages, counted, come back as they are.
func FuzzCounted(f *testing.F) {
	f.Add("<1>a", "<2>b\nc", "x")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var stream []byte
		var want []string
		for _, m := range []string{a, b, c} {
			if m == "" {
				continue
			}
			stream = fmt.Appendf(stream, "%d %s", len(m), m)
			if kept := string(trimEnd([]byte(m))); kept != "" {
				want = append(want, kept)
			}
		}
		if got, _ := cut(OctetCounting, 1<<20, stream, 5); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
