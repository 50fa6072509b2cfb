package faults

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
)

// proxy stands before an HTTP input and does what a row tells it.
type proxy struct {
	*httptest.Server
	fault atomic.Pointer[fault] // nil: none
}

// fault is what a proxy does wrong until it is lifted.
type fault struct {
	met    chan struct{} // capacity 1: a request has met it
	lifted chan struct{} // closed in the end
	answer func(f *fault, w http.ResponseWriter, r *http.Request) bool
}

// meet notes that a request has met the fault.
func (f *fault) meet() {
	select {
	case f.met <- struct{}{}:
	default:
	}
}

// beginHTTP starts an HTTP input behind a proxy, instead of the receiver of the other
// rows, and makes logship ship there.
func (s *setup) beginHTTP(t *testing.T, bulk bool) *proxy {
	t.Helper()
	path := filepath.Join(s.dir, "received.http")
	s.next(t, path)
	f, err := os.Create(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	lines := bufio.NewWriter(f)
	in := gelftest.Start(t, gelftest.Options{HTTP: s.receiverAddress(), Bulk: bulk, Sink: func(m gelftest.Message) {
		_, _ = lines.Write(append(m.Raw[:len(m.Raw):len(m.Raw)], '\n'))
		_ = lines.Flush() // an error shows as messages that are missing
	}})
	transport := &http.Transport{}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: in.Addr("http")})
	forward.Transport = transport
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := p.fault.Load(); f != nil && r.Method == http.MethodPost && f.answer(f, w, r) {
			f.meet()
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		p.Server.Close()
		transport.CloseIdleConnections()
	})
	s.url = "gelf+" + p.URL
	s.beginLogship(t)
	rate := 500
	if !bulk {
		rate = 100 // each message waits for an answer of its own
	}
	s.beginLoad(t, rate, post(t, s.inputAddress(), clientTimeout))
	s.flows(t)
	return p
}

// TestRow19HTTP: whatever a proxy or the input answers, or does not, nothing is lost and
// no more than a batch comes twice.
func TestRow19HTTP(t *testing.T) {
	always := func(status int, header ...string) func(*fault, http.ResponseWriter, *http.Request) bool {
		return func(_ *fault, w http.ResponseWriter, _ *http.Request) bool {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			return true
		}
	}
	answers := map[string]func(*fault, http.ResponseWriter, *http.Request) bool{
		"429":           always(http.StatusTooManyRequests, "Retry-After", "1"),
		"503":           always(http.StatusServiceUnavailable),
		"500":           always(http.StatusInternalServerError),
		"hang mid-body": hang,
		"reset": func(f *fault, _ http.ResponseWriter, r *http.Request) bool {
			_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
			f.meet()
			panic(http.ErrAbortHandler)
		},
	}
	for name, bulk := range map[string]bool{"single": false, "bulk": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, 19)
			s.set = append(s.set, "output.compress=none", "output.http.bulk="+strconv.FormatBool(bulk))
			p := s.beginHTTP(t, bulk)
			for _, answer := range answers {
				s.meet(t, p, answer)
			}
			if bulk {
				s.meet(t, p, tooLarge)
			}
			s.verdict(t)
			// Closer than what the verdict allows.
			const batchBytes = 128 << 10
			if bound := s.faults * batchBytes / (s.bytes / s.messages); s.copies > bound {
				t.Errorf("%d copies, want at most %d: a batch for each fault", s.copies, bound)
			}
		})
	}
}

// meet makes p answer so until some requests have met it, and waits for the recovery.
func (s *setup) meet(t *testing.T, p *proxy, answer func(*fault, http.ResponseWriter, *http.Request) bool) {
	t.Helper()
	f := &fault{met: make(chan struct{}, 1), lifted: make(chan struct{}), answer: answer}
	p.fault.Store(f)
	s.load.more(t, s.rate/2)
	select {
	case <-f.met:
	case <-time.After(patience):
		t.Fatal("no request meets the fault")
	}
	p.fault.Store(nil)
	close(f.lifted)
	s.faults++
	s.recover(t, 5*time.Second)
}

// hang reads half of a body, and nothing more until the fault is lifted.
func hang(f *fault, _ http.ResponseWriter, r *http.Request) bool {
	_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	f.meet()
	<-f.lifted
	panic(http.ErrAbortHandler)
}

// tooLarge takes bodies of a few messages only.
func tooLarge(_ *fault, w http.ResponseWriter, r *http.Request) bool {
	if r.ContentLength <= 1<<10 {
		return false
	}
	w.WriteHeader(http.StatusRequestEntityTooLarge)
	return true
}
