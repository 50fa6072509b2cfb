package spool

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func TestFormatRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := header{after: rapid.Uint64().Draw(t, "after"), sure: rapid.Uint64().Draw(t, "sure")}
		copy(h.id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		if got, err := parseHeader(h.append(nil)); err != nil || got != h || len(h.append(nil)) != headerBytes {
			t.Fatal(got, err)
		}
		m := mark{id: h.id, generation: 1, head: h.after, tail: h.sure, next: 9}
		if got, err := parseMark(m.append(nil)); err != nil || got != m || len(m.append(nil)) != slotBytes {
			t.Fatal(got, err)
		}
	})
}

// Any change of a header or a mark is noticed.
func TestHeaderDamage(t *testing.T) {
	h, m := header{after: 7, sure: 5}.append(nil), mark{head: 3, tail: 8, next: 9}.append(nil)
	for i := range 8 * 52 {
		b := slices.Clone(h)
		if b[i/8] ^= 1 << (i % 8); true {
			if _, err := parseHeader(b); err != errDamaged {
				t.Errorf("bit %d: %v", i, err)
			}
		}
	}
	for i := range 8 * 68 {
		b := slices.Clone(m)
		b[i/8] ^= 1 << (i % 8)
		if _, err := parseMark(b); err != errDamaged {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	for n := range h {
		if _, err := parseHeader(h[:n]); err != errDamaged {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestSegmentName(t *testing.T) {
	for _, first := range []uint64{1, 15, 16, 1 << 40, math.MaxUint64} {
		if got, ok := parseSegmentName(segmentName(first)); !ok || got != first {
			t.Error(first, got, ok)
		}
	}
	for _, bad := range []string{"", ".seg", "1.seg", "0000000000000000.seg", "000000000000000A.seg", "0000000000000001", "00000000000000001.seg", "0000000000000001.seg.bad"} {
		if _, ok := parseSegmentName(bad); ok {
			t.Errorf("%q is a segment", bad)
		}
	}
}

// spans counts every number once, in whatever ranges it comes.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spans
		seen := map[uint64]bool{}
		for range rapid.IntRange(0, 30).Draw(t, "n") {
			first := rapid.Uint64Range(1, 50).Draw(t, "first")
			last := rapid.Uint64Range(0, 55).Draw(t, "last")
			want := uint64(0)
			for n := first; n <= last; n++ {
				if !seen[n] {
					want++
				}
				seen[n] = true
			}
			if got := s.add(first, last); got != want {
				t.Fatalf("add %d-%d: %d, want %d: %v", first, last, got, want, s)
			}
			for i, a := range s {
				if a.first > a.last || i > 0 && a.first <= s[i-1].last+1 {
					t.Fatalf("not in order: %v", s)
				}
			}
		}
	})
}

// rottenReader cannot read some blocks of 4 KiB.
type rottenReader struct {
	*bytes.Reader
	bad int64
}

func (r rottenReader) ReadAt(b []byte, off int64) (int, error) {
	if from, to := r.bad*blockBytes, (r.bad+1)*blockBytes; off < to && off+int64(len(b)) > from {
		return 0, syscall.EIO
	}
	return r.Reader.ReadAt(b, off)
}

// A block that the disk cannot read costs the frames that it holds a part of.
func TestUnreadableBlock(t *testing.T) {
	content := header{}.append(nil)
	var ends []int64
	for i := range uint64(100) {
		content = appendFrame(content, 0, i+1, i+1, &Message{Text: numbered(i + 1)})
		ends = append(ends, int64(len(content)))
	}
	for bad := range int64(len(content))/blockBytes + 1 {
		sc := newScanner(rottenReader{bytes.NewReader(content), bad}, 0, int64(len(content)), 1, 100)
		var got, want []int
		for i, end := range ends {
			if begin := end - (ends[1] - ends[0]); end <= bad*blockBytes || begin >= (bad+1)*blockBytes {
				want = append(want, i+1)
			}
		}
		for {
			f, ok, err := sc.scan()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			got = append(got, int(f.seq))
		}
		if !slices.Equal(got, want) {
			t.Errorf("block %d: got %v, want %v", bad, got, want)
		}
	}
}

// A message that looks like a frame is not taken for one when the frame around it is
// damaged; nor does it cost more than a look at each byte.
func TestMessageLikeAFrame(t *testing.T) {
	id := spoolID{1, 2, 3, 4, 5, 6, 7, 8}
	fake := appendFrame(nil, 0, 1, 2, &Message{Text: []byte("forged")})
	content := header{id: id}.append(nil)
	content = appendFrame(content, id.mask(), 1, 1, &Message{Text: bytes.Repeat(fake, 1000)})
	damaged := len(content) - 1
	content = appendFrame(content, id.mask(), 1, 2, &Message{Text: []byte("true")})
	content[damaged]++
	sc := newScanner(bytes.NewReader(content), id.mask(), int64(len(content)), 1, 10)
	f, ok, err := sc.scan()
	if !ok || err != nil || f.seq != 2 || !bytes.HasSuffix(f.payload, []byte("true")) {
		t.Errorf("%d %q %v %v", f.seq, f.payload, ok, err)
	}
}

// FuzzSegment: whatever a segment holds, scanning ends, finds only what has a right
// checksum, in order, and every frame that was put behind garbage.
func FuzzSegment(f *testing.F) {
	id := spoolID{1, 2, 3, 4, 5, 6, 7, 8}
	frames := appendFrame(nil, id.mask(), 1, 1, &Message{Text: []byte("one"), Priority: 3, Host: []byte("h")})
	frames = appendFrame(frames, id.mask(), 1, 2, &Message{Text: []byte("two")})
	f.Add(frames, uint16(3))
	f.Add(frames[:len(frames)-1], uint16(2))
	f.Add(append(make([]byte, 100), frames...), uint16(900))
	f.Add([]byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, garbage []byte, at uint16) {
		content := append(header{id: id}.append(nil), garbage...)
		last := uint64(1_000_000) + uint64(at)
		content = appendFrame(content, id.mask(), last, last, &Message{Text: garbage})
		sc := newScanner(bytes.NewReader(content), id.mask(), int64(len(content)), 1, last)
		before, found := uint64(0), false
		for {
			f, ok, err := sc.scan()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if f.seq <= before {
				t.Fatalf("frame %d behind %d", f.seq, before)
			}
			before = f.seq
			var m Message
			if f.seq != last && sc.tail > int64(headerBytes+len(garbage)) {
				return // the garbage ended within a frame, and what follows happens to complete it
			}
			if m.parse(f.payload) == nil && f.seq == last && bytes.Equal(m.Text, garbage) {
				found = true
			}
		}
		// The fuzzer does not break a checksum by chance.
		if !found && !bytes.Contains(garbage, binary.LittleEndian.AppendUint64(nil, last^id.mask())) {
			t.Error("the frame behind the garbage is not found")
		}
	})
}

// FuzzMessage: any payload is parsed or refused, and what is parsed comes back.
func FuzzMessage(f *testing.F) {
	f.Add(appendFrame(nil, 0, 1, 1, &Message{Text: []byte("t"), Priority: 7, Peer: []byte("p"), PID: []byte("1")})[frameBytes:])
	f.Add([]byte("0123456789"))
	f.Add([]byte("01234567\x03\x00\x63\x01xtext"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var m, again Message
		if m.parse(payload) != nil {
			return
		}
		if err := again.parse(appendFrame(nil, 0, 1, 1, &m)[frameBytes:]); err != nil || describeMessage(&m) != describeMessage(&again) {
			t.Errorf("%v: %s, %s", err, describeMessage(&m), describeMessage(&again))
		}
	})
}
