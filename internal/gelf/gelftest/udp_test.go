package gelftest

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sidecar/internal/gelf"
)

func dialUDP(t *testing.T, in *Input) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", in.Addr("udp"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// chunk returns a chunk datagram (GELF 1.1, "Chunking").
func chunk(id string, sequence, count int, payload string) string {
	return "\x1e\x0f" + (id + "........")[:8] + string([]byte{byte(sequence), byte(count)}) + payload
}

func TestUDPDatagrams(t *testing.T) {
	in, l := startLog(t, Options{UDP: loopback})
	c := dialUDP(t, in)
	for _, d := range []string{
		doc("plain"),
		compressed(t, doc("gzip"), gzipWriter),
		compressed(t, doc("zlib"), zlibWriter),
	} {
		send(t, c, d)
	}
	waitFor(t, l, 3)
	wantMessages(t, l, "plain gzip zlib")
	if r := l.Messages()[0]; r.Transport != "udp" || r.Conn != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestUDPBadDatagramsAreLost(t *testing.T) {
	in, l := startLog(t, Options{UDP: loopback})
	c := dialUDP(t, in)
	for _, d := range []string{
		"x",
		"\x1e\x0fshort",
		doc("trailing NUL") + "\x00",
		"\x78\x00" + doc("bad zlib header"),
		"\x1f\x00" + doc("half a gzip magic"),
		compressed(t, doc("cut"), gzipWriter)[:30],
		compressed(t, doc("beyond the decompression limit")+strings.Repeat(" ", MaxDecompressedBytes), gzipWriter),
		chunk("a", 0, 0, doc("count 0")),
		chunk("b", 1, 1, doc("sequence = count")),
		chunk("c", 0, 129, doc("129 chunks")),
		chunk("d", 0, 1, chunk("e", 0, 1, doc("chunk in a chunk"))),
	} {
		send(t, c, d)
	}
	send(t, c, doc("end"))
	waitFor(t, l, 2)
	// The cut comes after the document: what is lost is white space.
	wantMessages(t, l, "beyond the decompression limit end")
	for _, r := range l.Others() {
		if r.Verdict.Outcome != gelf.Refused {
			t.Errorf("%q: %s", r.Raw, r.Verdict.Outcome)
		}
	}
}

func TestDecompressionLimit(t *testing.T) {
	for _, tt := range []struct {
		size int
		want gelf.Outcome
	}{
		{MaxDecompressedBytes, gelf.Accepted}, {MaxDecompressedBytes + 1, gelf.Refused},
	} {
		head := `{"host":"h","short_message":"m","full_message":"`
		message := head + strings.Repeat("x", tt.size-len(head)-2) + `"}`
		raw, err := decompress([]byte(compressed(t, message, gzipWriter)))
		if err != nil || len(raw) != MaxDecompressedBytes {
			t.Fatalf("got %d bytes, %v", len(raw), err)
		}
		if got := gelf.Judge(raw).Outcome; got != tt.want {
			t.Errorf("%d bytes: got %s, want %s", tt.size, got, tt.want)
		}
	}
}

func TestUDPChunks(t *testing.T) {
	in, l := startLog(t, Options{UDP: loopback})
	a, b := dialUDP(t, in), dialUDP(t, in)
	whole := doc("out of order")
	send(t, a, chunk("1", 2, 3, whole[40:]))
	send(t, a, chunk("1", 0, 3, whole[:20]))
	send(t, a, chunk("1", 0, 3, "duplicate"))
	send(t, a, chunk("1", 1, 3, whole[20:40]))
	waitFor(t, l, 1)
	// The source address is not part of the key.
	whole = doc("two sources")
	send(t, a, chunk("2", 0, 2, whole[:20]))
	send(t, b, chunk("2", 1, 2, whole[20:]))
	waitFor(t, l, 2)
	packed := compressed(t, doc("compressed"), gzipWriter)
	send(t, a, chunk("3", 0, 2, packed[:20]))
	send(t, a, chunk("3", 1, 2, packed[20:]))
	waitFor(t, l, 3)
	wantMessages(t, l, "out of order two sources compressed")
}

func TestReassemblerCounts(t *testing.T) {
	for _, count := range []int{1, 2, 127, 128} {
		var r reassembler
		var want bytes.Buffer
		for i := range count {
			part := fmt.Sprintf("<%d>", i)
			want.WriteString(part)
			got, err := r.add(time.Unix(0, 0), []byte(chunk("x", i, count, part)))
			if err != nil {
				t.Fatal(err)
			}
			if last := i == count-1; last != (got != nil) || last && !bytes.Equal(got, want.Bytes()) {
				t.Fatalf("chunk %d of %d: got %q", i, count, got)
			}
		}
		if len(r.pending) != 0 || r.bytes != 0 {
			t.Errorf("%d messages, %d bytes wait", len(r.pending), r.bytes)
		}
	}
}

func TestReassemblerEmptyLastChunk(t *testing.T) {
	var r reassembler
	if got, err := r.add(time.Unix(0, 0), []byte(chunk("x", 1, 2, ""))); got != nil || err != nil {
		t.Fatal(got, err)
	}
	if got, err := r.add(time.Unix(0, 0), []byte(chunk("x", 0, 2, "ab"))); string(got) != "ab" || err != nil {
		t.Fatal(got, err)
	}
}

func TestReassemblerLifetime(t *testing.T) {
	start := time.Unix(100, 0)
	for _, tt := range []struct {
		after time.Duration
		whole bool
	}{
		{chunkLifetime, true}, {chunkLifetime + time.Millisecond, false},
	} {
		var r reassembler
		for i, at := range []time.Time{start, start.Add(tt.after)} {
			got, err := r.add(at, []byte(chunk("x", i, 2, "ab")))
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 && (got != nil) != tt.whole {
				t.Errorf("after %s: got %q", tt.after, got)
			}
		}
	}
}

func TestReassemblerMemoryIsBounded(t *testing.T) {
	var r reassembler
	payload := strings.Repeat("x", 60000)
	for i := range 2000 {
		if _, err := r.add(time.Unix(0, 0), []byte(chunk(fmt.Sprintf("%08d", i), 0, 2, payload))); err != nil {
			t.Fatal(err)
		}
		if r.bytes > maxPendingBytes+len(payload) {
			t.Fatalf("%d bytes wait", r.bytes)
		}
	}
}

func FuzzReassembler(f *testing.F) {
	f.Add([]byte(chunk("x", 0, 2, "ab")), []byte(chunk("x", 1, 2, "cd")))
	f.Add([]byte(chunk("x", 0, 2, "ab")), []byte(chunk("x", 5, 9, "cd")))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var r reassembler
		for _, d := range [][]byte{a, b, a} {
			if got, err := r.add(time.Unix(0, 0), d); err != nil && got != nil {
				t.Error("a message and an error")
			}
		}
		waiting := 0
		for _, p := range r.pending {
			waiting += p.bytes
		}
		if waiting != r.bytes {
			t.Errorf("%d bytes wait, counted %d", waiting, r.bytes)
		}
	})
}
