package scrape

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sidecar/internal/promtext"
)

// good is how many targets without a fault stand beside one with a fault.
const good = 4

// faulty serves a scraper of a target "faulty" that answers as handler does, and of
// good ones.
func faulty(t *testing.T, o Options, handler http.HandlerFunc) scraped {
	t.Helper()
	a := &app{Server: httptest.NewServer(handler)}
	t.Cleanup(a.Close)
	targets := []Target{target(t, "faulty", "", a)}
	for i := range good {
		targets = append(targets, target(t, "shop", fmt.Sprint(i), newApp(t, page1)))
	}
	return start(t, o, targets...)
}

// complete reports what is missing of the good targets.
func complete(t *testing.T, page string) {
	t.Helper()
	valid(t, page)
	for i := range good {
		lines(t, page, fmt.Sprintf(`a_total{app="shop",worker="%d",x="1"} 5`, i), fmt.Sprintf(`healthd_target_up{app="shop",worker="%d"} 1`, i))
	}
}

// cut scrapes once and lets the scraper's patience end when all targets but one are read.
func (s scraped) cut(t *testing.T) string {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60") })
	defer wg.Wait()
	await(t, func() bool {
		done := 0
		for _, m := range s.current() {
			if m.result().done {
				done++
			}
		}
		return done == good
	})
	_, page := s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "0.02")
	return page
}

// raw answers with bytes as they are, and ends the connection: in order, or, as that of a
// killed process with unread data, not.
func raw(w http.ResponseWriter, answer string, kill bool) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(c, answer)
	if kill {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	_ = c.Close()
}

const rawHead = "HTTP/1.1 200 OK\r\nContent-Type: " + textType + "\r\n"

// text answers with a page of the text format.
func text(page string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textType)
		_, _ = io.WriteString(w, page)
	}
}

// bare answers with bytes as they are.
func bare(answer string, kill bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { raw(w, answer, kill) }
}

// TestFaults: a page with a fault is missing, the others are there, and the metrics and
// the log say why.
func TestFaults(t *testing.T) {
	const half = "# TYPE a_total counter\na_total{x=\"1\"} 5\na_total{x=\"2"
	refused := func(reason string) string {
		return `healthd_target_rejected_lines_total{app="faulty",reason="` + reason + `",worker=""} 1`
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		metric  string // beside healthd_target_up 0
		log     string
	}{
		{"broken line", text("good 1\nbroken{ 1\ngood2 1\n"), refused("syntax"), `read line 2 \"broken{ 1\": syntax`},
		{"half a page with a length", bare(rawHead+"Content-Length: 1000\r\n\r\n"+half, false), "", "unexpected EOF"},
		{"half a page in chunks", bare(rawHead+"Transfer-Encoding: chunked\r\n\r\n"+fmt.Sprintf("%x\r\n%s\r\n", len(half), half), false), "", "unexpected EOF"},
		{"half a chunk", bare(rawHead+"Transfer-Encoding: chunked\r\n\r\nff\r\n"+half, false), "", "unexpected EOF"},
		{"half a page to the end", bare("HTTP/1.0 200 OK\r\nContent-Type: "+textType+"\r\n\r\n"+half, false), refused("truncated"), "truncated"},
		{"killed within the page", bare(rawHead+"Content-Length: 1000\r\n\r\n"+half, true), "", "err="},
		{"killed before the page", bare("", true), "", "err="},
		{"closed before the page", bare("", false), "", "EOF"},
		{"half a head", bare(rawHead, false), "", "unexpected EOF"},
		{"CRLF", text("a 1\r\nb 2\r\n"), refused("crlf"), "crlf"},
		{"not UTF-8", text("a{b=\"\xff\"} 1\n"), refused("utf8"), "utf8"},
		{"NUL", text("a 1\n\x00\nb 1\n"), refused("syntax"), "syntax"},
		{"a name of ours", text("healthd_target_up 1\n"), refused("reserved_name"), "reserved_name"},
		{"HTML", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<p>It works")
		}, "", "text/html"},
		{"no content type", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "a 1\n")
		}, "", "no media type"},
		{"status 500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "a 1", 500) }, "", "status 500"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/else", http.StatusFound) }, "", "status 302"},
		{"another protocol", bare("SSH-2.0-OpenSSH_9.2\r\n", false), "", "malformed"},
		{"a head without an end", bare("HTTP/1.1 200 OK\r\n"+strings.Repeat("X-A: b\r\n", 20_000), false), "", "err="},
		{"another encoding", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			text("a 1\n")(w, nil)
		}, "", `encoding \"br\" was not asked for`},
		{"gzip that is broken", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			text("a_metric_that_is_not_packed 1\n")(w, nil)
		}, "", "gzip: invalid header"},
		{"OpenMetrics without an end", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", openType)
			_, _ = io.WriteString(w, "# TYPE a gauge\na 1\n")
		}, refused("no_eof"), "no_eof"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var well atomic.Bool
			s := faulty(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
				if well.Load() {
					text("recovered 1\n")(w, r)
				} else {
					c.handler(w, r)
				}
			})
			_, page := s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60")
			complete(t, page)
			lines(t, page, `healthd_target_up{app="faulty",worker=""} 0`, `healthd_target_samples{app="faulty",worker=""} 0`)
			if c.metric != "" {
				lines(t, page, c.metric)
			}
			if strings.Contains(page, `{app="faulty"} `) || strings.Contains(page, `{app="faulty",x=`) {
				t.Errorf("it is there in part:\n%s", page)
			}
			if log := s.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, c.log) {
				t.Errorf("log %q, want %q", log, c.log)
			}
			well.Store(true)
			_, page = s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60")
			complete(t, page)
			lines(t, page, `recovered{app="faulty"} 1`, `healthd_target_up{app="faulty",worker=""} 1`)
		})
	}
}

// TestTolerated: what Prometheus takes is taken, and counted where it is not as it should
// be.
func TestTolerated(t *testing.T) {
	counted := func(reason string) string {
		return `healthd_target_rejected_lines_total{app="faulty",reason="` + reason + `",worker=""} 1`
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    []string
	}{
		{"missing newline", text("a 1\nb 2"), []string{`a{app="faulty"} 1`, `b{app="faulty"} 2`, counted("no_newline")}},
		{"a page to the end of the connection", bare("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\na 1\n", false), []string{`a{app="faulty"} 1`}},
		{"gzip that was not asked for", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Type", textType)
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, "a 1\n")
			_ = z.Close()
		}, []string{`a{app="faulty"} 1`}},
		{"an empty page", text(""), []string{`healthd_target_samples{app="faulty",worker=""} 0`}},
		{"duplicate series", text("a 1\na 2\nb 3\n"), []string{`a{app="faulty"} 1`, `b{app="faulty"} 3`, counted("duplicate_series"), "healthd_duplicate_series_total 1"}},
		{"a TYPE that contradicts itself", text("# TYPE a gauge\n# TYPE a counter\na 1\n"), []string{"# TYPE a gauge\na{app=\"faulty\"} 1", counted("type_conflict")}},
		// A clock that jumped, in either direction: what it says is removed.
		{"timestamps", text("a 1 1\nb 2 99999999999999\nc 3 0\n"), []string{`a{app="faulty"} 1`, `b{app="faulty"} 2`, `c{app="faulty"} 3`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := faulty(t, Options{}, c.handler)
			_, page := s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60")
			complete(t, page)
			lines(t, page, append(c.want, `healthd_target_up{app="faulty",worker=""} 1`)...)
			if s.log.Len() > 0 {
				t.Errorf("log %s", s.log)
			}
		})
	}
}

// TestHanging: a target that does not come to an end, wherever it stops, is missing when
// the scraper's patience ends, and all others are there.
func TestHanging(t *testing.T) {
	for name, say := range map[string]func(w io.Writer) error{
		"before the head": func(io.Writer) error { return nil },
		"within the head": func(w io.Writer) error { _, err := io.WriteString(w, rawHead); return err },
		"within the page": func(w io.Writer) error {
			_, err := io.WriteString(w, rawHead+"Content-Length: 1000\r\n\r\n"+page1)
			return err
		},
		"byte by byte": func(w io.Writer) error {
			_, err := io.WriteString(w, rawHead+"\r\n")
			for ; err == nil; runtime.Gosched() {
				_, err = io.WriteString(w, "#")
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := faulty(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
				c, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if say(c) == nil {
					_, _ = io.Copy(io.Discard, c) // until the scraper goes
				}
			})
			page := s.cut(t)
			complete(t, page)
			lines(t, page, `healthd_target_up{app="faulty",worker=""} 0`)
			if !strings.Contains(s.log.String(), "target=faulty") {
				t.Errorf("log %s", s.log)
			}
		})
	}
}

// endless writes lines of series until the reader goes or there are n of them. It returns
// how many bytes it got rid of.
func endless(w io.Writer, n int) (written int64) {
	var b []byte
	for i := 0; i < n; {
		b = b[:0]
		for range 1000 {
			b = append(strconv.AppendInt(append(b, "requests_total{id=\""...), int64(i), 10), "\"} 1\n"...)
			i++
		}
		m, err := w.Write(b)
		if written += int64(m); err != nil {
			break
		}
	}
	return written
}

// socketBuffers is more than what the kernel takes of a connection that nobody reads
// (net.ipv4.tcp_rmem and tcp_wmem), and what fits into buffers of programs.
const socketBuffers = 32 << 20

// TestHugePages: what is too large is not read to its end, and nothing of it is kept.
func TestHugePages(t *testing.T) {
	for name, series := range map[string]int{"100 MB": 4_000_000, "10 million series": 10_000_000} {
		t.Run(name, func(t *testing.T) {
			const limit = 16 << 20
			written := make(chan int64, 1)
			s := faulty(t, Options{Limits: promtext.Limits{PageBytes: limit}}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", textType)
				written <- endless(w, series)
			})
			before := heap()
			_, page := s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60")
			complete(t, page)
			lines(t, page, `healthd_target_up{app="faulty",worker=""} 0`, `healthd_target_limit_exceeded{app="faulty",worker=""} 1`,
				`healthd_target_rejected_lines_total{app="faulty",reason="limit_bytes",worker=""} 1`)
			if n := <-written; n > limit+socketBuffers {
				t.Errorf("%d bytes were read", n)
			}
			if kept := heap() - before; kept > 4<<20 {
				t.Errorf("%d bytes are kept", kept)
			}
		})
	}
}

// heap returns what is in use of it.
func heap() int64 {
	for range 3 { // a pool is emptied by the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestGzipBomb: the limit is that of what comes out.
func TestGzipBomb(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = z.Write(bytes.Repeat([]byte("#\n"), 1<<19))
	}
	_ = z.Close()
	s := faulty(t, Options{Limits: promtext.Limits{PageBytes: 1 << 20}}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textType)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	_, page := s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60")
	complete(t, page)
	lines(t, page, `healthd_target_up{app="faulty",worker=""} 0`, `healthd_target_limit_exceeded{app="faulty",worker=""} 1`)
}

// TestManyHugePages: many targets that each stay within their own limit have no more than
// the total together; those within their share are whole, whatever the others do.
func TestManyHugePages(t *testing.T) {
	const huge, total = 40, 4 << 20
	hostile := &app{Server: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textType)
		endless(w, 1<<40)
	}))}
	t.Cleanup(hostile.Close)
	var fair strings.Builder
	const share = total / 2 / (huge + good)
	for i := 0; fair.Len() < share-100; i++ {
		fmt.Fprintf(&fair, "fair_total{id=\"%d\"} 1\n", i)
	}
	a := newApp(t, fair.String())
	var targets []Target
	for i := range huge {
		targets = append(targets, target(t, "huge", fmt.Sprint(i), hostile))
	}
	for i := range good {
		targets = append(targets, target(t, "shop", fmt.Sprint(i), a))
	}
	s := start(t, Options{TotalBytes: total}, targets...)
	for range 3 {
		_, page := s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60")
		valid(t, page)
		for i := range huge {
			lines(t, page, fmt.Sprintf(`healthd_target_up{app="huge",worker="%d"} 0`, i), fmt.Sprintf(`healthd_target_limit_exceeded{app="huge",worker="%d"} 1`, i))
		}
		for i := range good {
			if n, want := strings.Count(page, fmt.Sprintf("fair_total{app=\"shop\",worker=\"%d\",", i)), strings.Count(fair.String(), "\n"); n != want {
				t.Errorf("worker %d has %d series, want %d", i, n, want)
			}
		}
	}
	if !strings.Contains(s.log.String(), "metrics.max_total leaves no more") {
		t.Errorf("log %s", s.log)
	}
}

// TestRoom: who needs more than its share has it as long as it needs it.
func TestRoom(t *testing.T) {
	one, two := newApp(t, ""), newApp(t, "")
	page := func(size int) string { return "a 1\n" + strings.Repeat("#", size-5) + "\n" }
	s := start(t, Options{TotalBytes: 4000}, target(t, "one", "", one), target(t, "two", "", two)) // 1000 for each, 2000 for both
	expect := func(sizeOne, sizeTwo, upOne, upTwo int) {
		t.Helper()
		one.say(textType, page(sizeOne))
		two.say(textType, page(sizeTwo))
		_, got := s.get(t, "/metrics")
		lines(t, got, fmt.Sprintf(`healthd_target_up{app="one",worker=""} %d`, upOne), fmt.Sprintf(`healthd_target_up{app="two",worker=""} %d`, upTwo))
	}
	expect(3000, 1000, 1, 1)
	expect(3000, 1001, 1, 0)
	expect(3001, 1000, 0, 1)
	expect(2000, 2000, 1, 1)
	expect(1000, 3000, 1, 0) // what one had is not free yet: it may need it again
	expect(400, 3000, 1, 0)  // now it is
	expect(400, 3000, 1, 1)
	two.Close()
	_, _ = s.get(t, "/metrics")
	one.say(textType, page(3000))
	if _, got := s.get(t, "/metrics"); !strings.Contains(got, `healthd_target_up{app="one",worker=""} 1`) {
		t.Errorf("what was held by a target that is gone is not free:\n%s", got)
	}
	// With more targets the shares are smaller: what was made for larger ones is let go.
	more := []Target{target(t, "one", "", one)}
	for i := range 4 {
		more = append(more, target(t, "shop", fmt.Sprint(i), newApp(t, page1)))
	}
	s.Replace(more) // 400 for each, 2000 for all
	one.say(textType, page(2400))
	if _, got := s.get(t, "/metrics"); !strings.Contains(got, `healthd_target_up{app="one",worker=""} 1`) || s.find("one", "").made != 2400 {
		t.Errorf("%d bytes made:\n%s", s.find("one", "").made, got)
	}
}

// TestBuffersThatAreKept: not of any size, and not any number.
func TestBuffersThatAreKept(t *testing.T) {
	s := New(Options{})
	s.giveBack(make([]byte, keptBuffer+1))
	if b := s.borrow(); b != nil {
		t.Errorf("one of %d bytes is kept", cap(b))
	}
	for range keptFetches/keptBuffer + 1 {
		s.giveBack(make([]byte, keptBuffer))
	}
	for n := keptFetches / keptBuffer; n >= 0; n-- {
		if b := s.borrow(); (b != nil) != (n > 0) {
			t.Errorf("%d more are kept: %v", n, b != nil)
		}
	}
	for _, c := range []struct{ size, used, kept int }{{keptBuffer, 1, keptBuffer}, {keptBuffer + 1, 1, 1}, {4 * keptBuffer, keptBuffer, 4 * keptBuffer}} {
		if b := spare(make([]byte, 1), make([]byte, c.used, c.size)); cap(b) != c.kept {
			t.Errorf("of a buffer of %d with %d used, one of %d is kept", c.size, c.used, cap(b))
		}
	}
}

// TestRoomOfOne: pages that are passed through have a total of their own, and give it back.
func TestRoomOfOne(t *testing.T) {
	a := newApp(t, strings.Repeat("#\n", 500))
	s := start(t, Options{TotalBytes: 1000}, target(t, "a", "", a))
	for range 3 {
		if answer, body := s.get(t, "/targets/a/metrics"); answer.StatusCode != http.StatusOK || len(body) != 1000 {
			t.Errorf("%d %s", answer.StatusCode, body)
		}
	}
	a.say(textType, strings.Repeat("#\n", 501))
	if answer, body := s.get(t, "/targets/a/metrics"); answer.StatusCode != http.StatusBadGateway || !strings.Contains(body, "metrics.max_total") {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
}

// TestFlightsAreFew: slow readers keep only a number of pages in memory.
func TestFlightsAreFew(t *testing.T) {
	s := start(t, Options{}, target(t, "a", "", newApp(t, page1)))
	var flights []*flight
	fly := func() error {
		f, err := s.join(wanted{}, true, time.Now().Add(time.Minute))
		if err == nil {
			<-f.done
			flights = append(flights, f)
		}
		return err
	}
	for range maxFlights {
		if err := fly(); err != nil {
			t.Fatal(err)
		}
	}
	if err := fly(); !errors.Is(err, errCrowd) {
		t.Errorf("one more: %v", err)
	}
	s.leave(flights[0])
	if err := fly(); err != nil {
		t.Errorf("when one has gone: %v", err)
	}
	for _, f := range flights[1:] {
		s.leave(f)
	}
	if s.users != 0 || s.flights != 0 {
		t.Errorf("%d users, %d flights", s.users, s.flights)
	}
}
