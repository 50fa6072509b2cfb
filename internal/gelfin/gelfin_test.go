package gelfin

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gogelf "github.com/Graylog2/go-gelf/gelf"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sidecar/internal/budget"
	"sidecar/internal/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Sink.
type memory struct {
	mu       sync.Mutex
	changed  sync.Cond
	list     []spool.Message
	discards map[string]uint64
	hold     chan struct{} // Append waits until it is closed
	held     int           // calls that did
	fail     error
}

func (s *memory) Append(ctx context.Context, msgs []spool.Message) error {
	if s.hold != nil {
		s.mu.Lock()
		s.held++
		s.mu.Unlock()
		s.changed.Broadcast()
		select {
		case <-s.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for _, m := range msgs {
		m.Text = bytes.Clone(m.Text)
		s.list = append(s.list, m)
	}
	s.changed.Broadcast()
	return nil
}

func (s *memory) discard(d Discard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discards[d.Reason] += d.Messages
	s.changed.Broadcast()
}

// wait waits until done, which is called with mu held, is true.
func (s *memory) wait(t *testing.T, done func() bool) {
	t.Helper()
	timeout := time.AfterFunc(20*time.Second, s.changed.Broadcast)
	defer timeout.Stop()
	end := time.Now().Add(20 * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	for !done() {
		if time.Now().After(end) {
			t.Fatalf("%d messages, discards %v", len(s.list), s.discards)
		}
		s.changed.Wait()
	}
}

// texts waits for n messages and returns them.
func (s *memory) texts(t *testing.T, n int) []string {
	t.Helper()
	s.wait(t, func() bool { return len(s.list) >= n })
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, m := range s.list {
		all = append(all, string(m.Text))
	}
	return all
}

// running is a Listener that runs until the end of the test.
type running struct {
	*memory
	*Listener
	address string
	stop    func() error
}

func run(t *testing.T, scheme string, o Options) *running {
	t.Helper()
	s := &memory{discards: map[string]uint64{}}
	if given, ok := o.Sink.(*memory); ok {
		s = given
		s.discards = map[string]uint64{}
	}
	s.changed.L = &s.mu
	o.Listen, o.Sink, o.OnDiscard, o.Log = scheme+"://127.0.0.1:0", s, s.discard, slog.New(slog.DiscardHandler)
	l, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	r := &running{memory: s, Listener: l, address: l.Addrs()[0].String()}
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("Run does not return")
		}
	})
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *running) dial(t *testing.T, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, r.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// message is one of go-gelf's.
func message(i int, extra string) *gogelf.Message {
	return &gogelf.Message{Version: "1.1", Host: "app", Short: fmt.Sprintf("message %d", i), TimeUnix: 1794903330.5, Level: 4,
		Extra: map[string]interface{}{"_extra": extra}}
}

func checkMessages(t *testing.T, texts []string, n int, extra string) {
	t.Helper()
	if len(texts) != n {
		t.Fatalf("%d messages, want %d", len(texts), n)
	}
	for i, text := range texts {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatalf("%.200q: %v", text, err)
		}
		if m["short_message"] != fmt.Sprintf("message %d", i) || m["_extra"] != extra || m["host"] != "app" {
			t.Errorf("message %d is %.200q", i, text)
		}
	}
}

// TestGoGELFWriters: Graylog's own Go library sends, small and in chunks, in each of its
// forms of compression.
func TestGoGELFWriters(t *testing.T) {
	incompressible := strings.Repeat("0123456789abcdef", 1000)
	for name, compression := range map[string]gogelf.CompressType{"none": gogelf.CompressNone, "gzip": gogelf.CompressGzip, "zlib": gogelf.CompressZlib} {
		for size, extra := range map[string]string{"small": "x", "chunks": incompressible} {
			t.Run("udp "+name+" "+size, func(t *testing.T) {
				r := run(t, "udp", Options{})
				w, err := gogelf.NewUDPWriter(r.address)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				w.CompressionType, w.CompressionLevel = compression, gzip.NoCompression
				for i := range 20 {
					if err := w.WriteMessage(message(i, extra)); err != nil {
						t.Fatal(err)
					}
				}
				checkMessages(t, r.texts(t, 20), 20, extra)
			})
		}
	}
	t.Run("tcp", func(t *testing.T) {
		r := run(t, "tcp", Options{})
		w, err := gogelf.NewTCPWriter(r.address)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if err := w.WriteMessage(message(i, incompressible)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		checkMessages(t, r.texts(t, 100), 100, incompressible)
	})
}

// TestHalfCloseConfirms: when the sender sees the end, everything is stored.
func TestHalfCloseConfirms(t *testing.T) {
	s := &memory{hold: make(chan struct{})}
	r := run(t, "tcp", Options{Sink: s})
	c := r.dial(t, "tcp")
	for i := range 1000 {
		fmt.Fprintf(c, "{\"short_message\":\"%d\"}\x00", i)
	}
	c.(*net.TCPConn).CloseWrite()
	close(s.hold)
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) != 1000 {
		t.Errorf("%d messages are stored when the connection ends, want 1000", len(s.list))
	}
	if m := s.list[0]; string(m.Peer) != "127.0.0.1" || string(m.Transport) != "tcp" || string(m.Source) != "gelf" || m.TimeUsec == 0 || m.Priority != -1 {
		t.Errorf("envelope %+v", m)
	}
}

// TestFrames: a frame that is too long, empty, or not ended spoils no other one.
func TestFrames(t *testing.T) {
	const limit = 1000
	whole := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	for _, c := range []struct {
		name, stream string
		want         []string
		reason       string
	}{
		{"empty", "\x00\x00{}\x00\x00", []string{"{}"}, ""},
		{"limit", whole(limit) + "\x00{}\x00", []string{whole(limit), "{}"}, ""},
		{"above the limit", whole(limit+1) + "\x00{}\x00", []string{"{}"}, ReasonTooLong},
		{"far above the limit", whole(1<<20) + "\x00{}\x00", []string{"{}"}, ReasonTooLong},
		{"no end", "{}\x00{\"a\":1}", []string{"{}", `{"a":1}`}, ""},
		{"cut", "{}\x00{\"a\":", []string{"{}"}, ReasonIncomplete},
		{"never an end", strings.Repeat("garbage", 1<<17), nil, ReasonTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, "tcp", Options{MaxMessageBytes: limit})
			conn := r.dial(t, "tcp")
			go func() {
				io.WriteString(conn, c.stream)
				conn.(*net.TCPConn).CloseWrite()
			}()
			if _, err := io.ReadAll(conn); err != nil {
				t.Fatal(err)
			}
			if got := r.texts(t, 0); strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("got %.100q, want %.100q", got, c.want)
			}
			r.memory.mu.Lock()
			defer r.memory.mu.Unlock()
			if c.reason != "" && r.discards[c.reason] != 1 || c.reason == "" && len(r.discards) > 0 {
				t.Errorf("discards %v, want one for %q", r.discards, c.reason)
			}
		})
	}
}

// chunk makes a chunk (GELF 1.1, "Chunking").
func chunk(id byte, sequence, count int, payload string) []byte {
	return append([]byte{0x1e, 0x0f, id, 0, 0, 0, 0, 0, 0, 0, byte(sequence), byte(count)}, payload...)
}

func TestReassembler(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	start := time.Unix(0, 0)
	discards := map[string]uint64{}
	shared := budget.New(20_000)
	waiting := shared.Backlog("gelf")
	r := &reassembler{maxBytes: 100, backlog: waiting, discard: func(reason string, n uint64) { discards[reason] += n }, now: time.Now}
	add := func(at time.Duration, from netip.Addr, datagram []byte, want string) {
		t.Helper()
		if got := r.add(start.Add(at), from, datagram); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	counted := func(reason string, want uint64) {
		t.Helper()
		if discards[reason] != want {
			t.Errorf("%d discards for %s, want %d", discards[reason], reason, want)
		}
	}
	add(0, a, chunk(1, 2, 3, "c"), "")
	add(0, a, chunk(1, 0, 3, "a"), "")
	add(0, a, chunk(1, 0, 3, "x"), "") // again
	add(0, b, chunk(1, 1, 3, "y"), "") // another sender's
	add(0, a, chunk(1, 1, 3, "b"), "abc")
	add(0, a, chunk(2, 0, 1, "one"), "one")
	add(0, a, chunk(3, 0, 2, ""), "")
	add(0, a, chunk(3, 1, 2, "e"), "e")
	for _, bad := range [][]byte{chunk(4, 0, 0, ""), chunk(4, 1, 1, ""), chunk(4, 0, 129, ""), chunk(4, 0, 1, "")[:11]} {
		add(0, a, bad, "")
	}
	counted(ReasonChunk, 4)
	add(chunkLifetime+1, a, chunk(5, 0, 2, "f"), "") // what b sent is too old now
	counted(ReasonIncomplete, 1)
	add(2*chunkLifetime+1, a, chunk(5, 1, 2, "g"), "fg") // just in time
	add(2*chunkLifetime+1, a, chunk(6, 0, 2, strings.Repeat("x", 60)), "")
	add(2*chunkLifetime+1, a, chunk(6, 1, 2, strings.Repeat("x", 60)), "")
	counted(ReasonTooLong, 1)
	for i := range 100 {
		add(2*chunkLifetime+1, a, chunk(byte(10+i), 0, 128, "x"), "")
	}
	if n := waiting.Discarded().Messages; n != 98 || shared.Stats().Queued > 20_000 {
		t.Errorf("%d messages are discarded for want of memory", n)
	}
	add(2*chunkLifetime+1, a, chunk(10, 1, 128, "x"), "") // of one that is counted
	for sequence := range 127 {
		add(2*chunkLifetime+1, a, chunk(200, sequence, 128, ""), "")
	}
	add(2*chunkLifetime+1, a, chunk(200, 127, 128, "last of 128"), "last of 128")
	r.close()
	if n := waiting.Discarded().Messages + discards[ReasonIncomplete]; n != 101 || shared.Stats().Queued != 0 {
		t.Errorf("%d of 101 messages are counted, %d bytes are left", n, shared.Stats().Queued)
	}
}

// TestChunksThatLie: messages that never become complete are bounded in their number too.
func TestChunksThatLie(t *testing.T) {
	discards := map[string]uint64{}
	waiting := budget.New(1 << 20).Backlog("gelf")
	r := &reassembler{maxBytes: 1 << 20, backlog: waiting, discard: func(reason string, n uint64) { discards[reason] += n }, now: time.Now}
	const messages = 50_000
	for i := range messages {
		c := chunk(0, 0, 1+i%128, "x")
		binary.BigEndian.PutUint64(c[2:], uint64(i))
		if i%128 > 0 {
			r.add(time.Unix(0, 0), netip.Addr{}, c)
		}
		if len(r.pending) > maxPending {
			t.Fatalf("%d messages are pending", len(r.pending))
		}
	}
	r.close()
	if n := waiting.Discarded().Messages + discards[ReasonIncomplete]; n != messages-messages/128-1 {
		t.Errorf("%d are counted", n)
	}
}

// TestChunksEndInSilence: what waits for chunks is given up also when no chunk comes any
// more, and streams that wait for its memory get it.
func TestChunksEndInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared, incomplete := budget.New(1<<20), uint64(0)
		r := &reassembler{maxBytes: 1 << 20, backlog: shared.Backlog("gelf"), discard: func(_ string, n uint64) { incomplete += n }, now: time.Now}
		defer r.close()
		for i := range 10_000 {
			c := chunk(0, 0, 128, "x")
			binary.BigEndian.PutUint64(c[2:], uint64(i))
			r.take(netip.Addr{}, c)
		}
		if s := shared.Stats(); s.Queued < 1<<19 {
			t.Fatalf("%d bytes wait, too few for this test", s.Queued)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		memory := shared.Claim(1 << 19)
		if err := memory.Take(ctx); err != nil {
			t.Fatal(err)
		}
		memory.Give()
		synctest.Wait() // the memory was free before all were given up
		if took := time.Since(began); took > 2*chunkLifetime || shared.Stats().Queued > 0 || r.waits() || incomplete == 0 {
			t.Errorf("waited %v, %d bytes are left, %d messages are given up", took, shared.Stats().Queued, incomplete)
		}
	})
}

func compressed(t testing.TB, kind string, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if kind == "zlib" {
		w = zlib.NewWriter(&b)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBomb: what is small on the wire and huge in memory is not decompressed.
func TestBomb(t *testing.T) {
	r := run(t, "udp", Options{MaxMessageBytes: 10_000})
	c := r.dial(t, "udp")
	zeros := bytes.Repeat([]byte("0"), 10_001)
	huge := bytes.Repeat([]byte("0"), 10<<20)
	for _, kind := range []string{"gzip", "zlib"} {
		c.Write(compressed(t, kind, huge))
		c.Write(compressed(t, kind, zeros))
		c.Write(compressed(t, kind, zeros[1:]))
		c.Write(compressed(t, kind, zeros)[:20])
	}
	c.Write([]byte("\x1f\x8bno gzip"))
	r.wait(t, func() bool {
		return len(r.list) == 2 && r.discards[ReasonTooLong] == 4 && r.discards[ReasonCompression] == 3
	})
	if n := testing.AllocsPerRun(1, func() { inflate(compressed(t, "gzip", huge), 100) }); n > 10_000 {
		t.Errorf("%v allocations", n)
	}
}

// TestBacklog: a Sink that waits does not stop the reader; what is above the budget is
// counted, exactly.
func TestBacklog(t *testing.T) {
	s := &memory{hold: make(chan struct{})}
	r := run(t, "udp", Options{Sink: s, Budget: budget.New(50_000), DiscardEvery: time.Millisecond})
	c := r.dial(t, "udp")
	const sent = 500
	for range sent {
		c.Write([]byte(`{"short_message":"` + strings.Repeat("x", 80) + `"}`))
	}
	dropped := func() uint64 { return s.discards[ReasonBacklog] + s.discards[ReasonKernel] }
	s.wait(t, func() bool { return s.discards[ReasonBacklog] > 0 })
	close(s.hold)
	// One more, so that the kernel can say what it dropped.
	c.Write([]byte(`{}`))
	s.wait(t, func() bool { return uint64(len(s.list))+dropped() == sent+1 })
}

// TestTheLeastImportantGoFirst: of datagrams that do not find room, by their level,
// compressed or not; and it is told whose they were.
func TestTheLeastImportantGoFirst(t *testing.T) {
	s := &memory{hold: make(chan struct{})}
	r := run(t, "udp", Options{Sink: s, Budget: budget.New(1 << 20)})
	c := r.dial(t, "udp")
	doc := func(i, level int) []byte {
		return fmt.Appendf(nil, `{"version":"1.1","short_message":"%d","level":%d,"_x":"%s"}`, i, level, strings.Repeat("x", 200))
	}
	kinds := []string{"", "gzip", "zlib", "chunks"}
	const errorsSent, infoSent = 40, 4000
	for i := range infoSent {
		c.Write(doc(i, 6))
		if i%100 == 0 {
			r.drained(t)
		}
		if i%(infoSent/errorsSent) != 0 {
			continue
		}
		switch kind := kinds[i/(infoSent/errorsSent)%len(kinds)]; kind {
		case "":
			c.Write(doc(i, 3))
		case "chunks":
			text := doc(i, 3)
			first, second := chunk(1, 1, 2, string(text[100:])), chunk(1, 0, 2, string(text[:100]))
			binary.BigEndian.PutUint64(first[2:], uint64(i))
			binary.BigEndian.PutUint64(second[2:], uint64(i))
			c.Write(first)
			c.Write(second)
		default:
			c.Write(compressed(t, kind, doc(i, 3)))
		}
	}
	close(s.hold)
	sent := uint64(infoSent + errorsSent)
	c.Write([]byte(`{}`))
	s.wait(t, func() bool { return bytes.Equal(lastText(s.list), []byte(`{}`)) })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	errorsCame := 0
	for _, m := range s.list {
		if bytes.Contains(m.Text, []byte(`"level":3`)) {
			errorsCame++
		}
	}
	if errorsCame != errorsSent || s.discards[ReasonBacklog] == 0 || uint64(len(s.list))+s.discards[ReasonBacklog] != sent+1 {
		t.Errorf("%d of %d errors came, of %d messages %d, discards %v", errorsCame, errorsSent, sent+1, len(s.list), s.discards)
	}
}

// drained waits until the kernel holds no datagram.
func (r *running) drained(t *testing.T) {
	t.Helper()
	raw, err := r.sockets[0].Conn().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for n := 1; n > 0; <-ticker.C {
		control := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
		if err := errors.Join(control, err); err != nil {
			t.Fatal(err)
		}
	}
}

func lastText(list []spool.Message) []byte {
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1].Text
}

func TestSeverity(t *testing.T) {
	var p peeker
	for doc, want := range map[string]int{
		`{"level":0}`: 0, `{"level": 7}`: 7, `{"level" : "3" }`: 3, `{"short_message":"x","level":4,"_a":1}`: 4,
		`{"level":8}`: -1, `{"level":31}`: -1, `{"level":-1}`: -1, `{"level":`: -1, `{}`: -1, ``: -1, `{"level":3`: -1,
		`{"a":"` + strings.Repeat("x", 4000) + `","level":2}`: 2, `{"a":"` + strings.Repeat("x", 5000) + `","level":2}`: -1,
	} {
		for _, payload := range [][]byte{[]byte(doc), compressed(t, "gzip", []byte(doc)), compressed(t, "zlib", []byte(doc))} {
			if got := p.severity(payload); got != want {
				t.Errorf("%.60s: severity %d, want %d", doc, got, want)
			}
		}
	}
	if got := p.severity([]byte("\x1f\x8bno gzip")); got != -1 {
		t.Error(got)
	}
	huge := compressed(t, "gzip", bytes.Repeat([]byte("0"), 1<<20))
	if n := testing.AllocsPerRun(10, func() { p.severity(huge) }); n > 10 {
		t.Errorf("%v allocations", n)
	}
}

func TestHTTP(t *testing.T) {
	r := run(t, "http", Options{MaxMessageBytes: 1000})
	url := "http://" + r.address
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(path, encoding string, body []byte, want int) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, url+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if encoding != "" {
			req.Header.Set("Content-Encoding", encoding)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s %s %.40q: %s, want %d", path, encoding, body, resp.Status, want)
		}
	}
	long := []byte(`{"short_message":"` + strings.Repeat("x", 1000) + `"}`)
	post("/gelf", "", []byte(`{"a":0}`), 202)
	post("/gelf", "gzip", compressed(t, "gzip", []byte(`{"a":1}`)), 202)
	post("/gelf", "deflate", compressed(t, "zlib", []byte(`{"a":2}`)), 202)
	post("/gelf", "", compressed(t, "zlib", []byte(`{"a":3}`)), 202)
	post("/gelf", "", []byte("{\"a\":4}\r\n{\"a\":5}\n"), 202)
	post("/gelf", "", []byte("{\n\"a\":6}"), 202)
	post("/gelf", "", []byte("no\njson"), 202)
	post("/gelf", "", nil, 202)
	post("/gelf", "", long, 413)
	post("/gelf", "gzip", compressed(t, "gzip", long), 413)
	post("/gelf", "br", []byte(`{}`), 400)
	post("/gelf", "gzip", []byte(`{}`), 400)
	post("/other", "", []byte(`{}`), 404)
	if resp, err := client.Get(url + "/gelf"); err != nil || resp.StatusCode != 405 {
		t.Errorf("GET: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	want := []string{`{"a":0}`, `{"a":1}`, `{"a":2}`, `{"a":3}`, `{"a":4}`, `{"a":5}`, "{\n\"a\":6}", "no\njson"}
	if got := r.texts(t, len(want)); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", got)
	}
}

// TestASinkThatFailsEndsRun, and an HTTP sender is told to try again.
func TestASinkThatFailsEndsRun(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, scheme := range []string{"udp", "tcp", "http"} {
		t.Run(scheme, func(t *testing.T) {
			r := run(t, scheme, Options{Sink: &memory{fail: broken}})
			if scheme == "http" {
				resp, err := http.Post("http://"+r.address+"/gelf", "", strings.NewReader("{}"))
				if err != nil || resp.StatusCode != 503 {
					t.Errorf("got %v, %v", resp, err)
				}
				if err == nil {
					resp.Body.Close()
				}
				http.DefaultClient.CloseIdleConnections()
			} else {
				c := r.dial(t, scheme)
				io.WriteString(c, "{}\x00")
			}
			if err := r.stop(); scheme == "http" && !errors.Is(err, broken) {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// slow is a Sink that takes a moment to return when it is told to end.
type slow struct {
	begun, ended chan struct{} // Append was called; Run has returned
	outlived     chan bool     // whether Run did so before Append
}

func (s *slow) Append(ctx context.Context, _ []spool.Message) error {
	close(s.begun)
	<-ctx.Done()
	select {
	case <-s.ended:
		s.outlived <- true
	case <-time.After(50 * time.Millisecond):
		s.outlived <- false
	}
	return ctx.Err()
}

// TestRunWaitsForRequests, also for those that it has cut off.
func TestRunWaitsForRequests(t *testing.T) {
	s := &slow{begun: make(chan struct{}), ended: make(chan struct{}), outlived: make(chan bool, 1)}
	l, err := Listen(Options{Listen: "http://127.0.0.1:0", Sink: s, StopTimeout: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		l.Run(ctx)
		close(s.ended)
	}()
	c, err := net.Dial("tcp", l.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST /gelf HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
	<-s.begun
	cancel()
	if <-s.outlived {
		t.Error("Run has returned while a request is being stored")
	}
	<-s.ended
}

// exhausted is a net.Listener that has no descriptors left for some time.
type exhausted struct {
	net.Listener
	left int
}

func (e *exhausted) Accept() (net.Conn, error) {
	if e.left--; e.left < 0 {
		return nil, net.ErrClosed
	}
	return nil, syscall.EMFILE
}

// TestAFailureToAcceptIsLoggedOnce, however long it lasts.
func TestAFailureToAcceptIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		l := &Listener{o: Options{Log: slog.New(slog.NewTextHandler(&logged, nil))}.withDefaults()}
		l.runTCP(t.Context(), &exhausted{left: 100})
		if n := strings.Count(logged.String(), "too many open files"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

// TestConnections: those above the limit are reset, the others served.
func TestConnections(t *testing.T) {
	r := run(t, "tcp", Options{MaxConnections: 2})
	first, second := r.dial(t, "tcp"), r.dial(t, "tcp")
	io.WriteString(first, "{\"a\":1}\x00")
	io.WriteString(second, "{\"a\":2}\x00")
	r.texts(t, 2)
	third, err := net.Dial("tcp", r.address)
	if err == nil { // else it was reset by now
		defer third.Close()
		_, err = third.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a third connection: %v", err)
	}
	io.WriteString(first, "{\"a\":3}\x00")
	r.texts(t, 3)
	first.Close()
	second.Close()
	r.wait(t, func() bool { return r.discards[ReasonConnections] == 1 })
}

// TestAConnectionThatIsSilentIsReset after IdleTimeout: an orderly end would let the sender's
// next message vanish.
func TestAConnectionThatIsSilentIsReset(t *testing.T) {
	r := run(t, "tcp", Options{IdleTimeout: 50 * time.Millisecond})
	c := r.dial(t, "tcp")
	io.WriteString(c, "{}\x00")
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ends with %v", err)
	}
	r.texts(t, 1)
}

func TestListenRefuses(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:1", "tcp://127.0.0.1", "tls://127.0.0.1:1", "http://127.0.0.1:0/gelf", "tcp://256.0.0.1:0"} {
		if l, err := Listen(Options{Listen: address}); err == nil {
			l.Close()
			t.Errorf("%q is taken", address)
		}
	}
}

// FuzzDatagrams: whatever comes, memory stays within the limits, and documents that are
// whole come out.
func FuzzDatagrams(f *testing.F) {
	f.Add(chunk(1, 0, 2, "{"), chunk(1, 1, 2, "}"))
	f.Add(compressed(f, "gzip", []byte("{}")), compressed(f, "zlib", []byte("{}")))
	f.Add([]byte("\x1e\x0f"), []byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		const limit = 1000
		shared := budget.New(20 * limit)
		r := &reassembler{maxBytes: limit, backlog: shared.Backlog("gelf"), discard: func(string, uint64) {}, now: time.Now}
		defer r.close()
		var peek peeker
		for i, d := range [][]byte{first, second, first, second} {
			if isChunk(d) {
				d = r.add(time.Unix(int64(i), 0), netip.Addr{}, d)
				if len(d) > limit {
					t.Fatalf("%d bytes of chunks", len(d))
				}
			}
			if text, err := inflate(d, limit); err == nil && len(text) > limit {
				t.Fatalf("%d bytes", len(text))
			}
			if n := peek.severity(d); n < -1 || n > 7 {
				t.Fatalf("severity %d", n)
			}
			if n := shared.Stats().Queued; n < 0 || n > 20*limit {
				t.Fatalf("%d bytes wait", n)
			}
		}
	})
}

// FuzzFrames: the frames do not depend on where reads end, and none is above the limit.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("{}\x00\x00{\"a\":1}\x00{}"), 3)
	f.Add(bytes.Repeat([]byte("x"), 300), 7)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		const limit = 100
		read := func(piece int) (all []string, discarded uint64) {
			fr := framer{max: limit, discard: func(_ string, n uint64) { discarded += n }, in: budget.New(0).Buffer(limit, 0)}
			for rest := stream; len(rest) > 0; {
				space, err := fr.in.Space(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				n := copy(space, rest[:min(len(rest), piece)])
				fr.in.Wrote(n)
				rest = rest[n:]
				for frame, ok := fr.next(); ok; frame, ok = fr.next() {
					all = append(all, string(frame))
				}
			}
			if frame, ok := fr.end(true); ok {
				all = append(all, string(frame))
			}
			return all, discarded
		}
		whole, n := read(1 << 20)
		pieces, m := read(max(1, min(piece, 1<<20)))
		if strings.Join(whole, "\x00") != strings.Join(pieces, "\x00") || n != m {
			t.Fatalf("%q and %d discards, in pieces of %d %q and %d", whole, n, piece, pieces, m)
		}
		for _, frame := range whole {
			if len(frame) > limit {
				t.Fatalf("a frame of %d bytes", len(frame))
			}
		}
	})
}
