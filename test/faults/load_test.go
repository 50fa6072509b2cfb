package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"
)

// load is a generator. It hands numbered messages over in batches, at a rate, and hands
// a batch over again until it was accepted.
type load struct {
	cancel context.CancelFunc
	ended  chan struct{}
	gate   sync.Mutex                                       // held while the load pauses
	put    func(ctx context.Context, first, last int) error // guarded by gate; returns nil when all is accepted

	mu       sync.Mutex
	issued   int // guarded by mu: the number of the last message that was handed over
	accepted int // guarded by mu: all up to this one were accepted
	failed   int // guarded by mu: messages of batches that were handed over once more
	err      error
}

// generate starts a load of so many messages per second, which ends with the test.
func generate(t *testing.T, rate int, put func(ctx context.Context, first, last int) error) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{put: put, cancel: cancel, ended: make(chan struct{})}
	go l.run(ctx, rate)
	t.Cleanup(l.stop)
	return l
}

// stop ends the load. A batch that is under way may be accepted or not.
func (l *load) stop() {
	l.cancel()
	<-l.ended
}

func (l *load) run(ctx context.Context, rate int) {
	defer close(l.ended)
	const perSecond = 50
	ticker := time.NewTicker(time.Second / perSecond)
	defer ticker.Stop()
	for next := 1; ; {
		last := next + max(1, rate/perSecond) - 1
		l.gate.Lock()
		l.mu.Lock()
		l.issued = max(l.issued, last)
		l.mu.Unlock()
		err := l.put(ctx, next, last)
		l.gate.Unlock()
		l.mu.Lock()
		if l.err = err; err == nil {
			l.accepted = last
		} else {
			l.failed += last - next + 1
		}
		l.mu.Unlock()
		if err == nil {
			next = last + 1
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// pause ends the flow of messages until resume, which is to be called before stop.
func (l *load) pause()  { l.gate.Lock() }
func (l *load) resume() { l.gate.Unlock() }

// counts returns the number of the last message that was issued, of the last that was
// accepted, and how many were handed over once more.
func (l *load) counts() (issued, accepted, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.issued, l.accepted, l.failed
}

// more waits until n more messages were accepted.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	_, begin, _ := l.counts()
	until(t, patience, func() (bool, string) {
		_, accepted, _ := l.counts()
		l.mu.Lock()
		defer l.mu.Unlock()
		return accepted >= begin+n, fmt.Sprintf("%d of %d messages were accepted, %v", accepted-begin, n, l.err)
	})
}

// post returns a put function for an HTTP input of GELF: 202 says that the messages are
// stored. It gives up after some time, as clients do.
func post(t *testing.T, address string, timeout time.Duration) func(ctx context.Context, first, last int) error {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := http.Client{Transport: transport, Timeout: timeout}
	return func(ctx context.Context, first, last int) error {
		var body bytes.Buffer
		for n := first; n <= last; n++ {
			fmt.Fprintf(&body, `{"version":"1.1","host":"app","short_message":"message %d","_n":%d,"_filling":"%s"}`+"\n", n, n, filling(n))
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/gelf", &body)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusAccepted {
			return errors.New(answer.Status)
		}
		return nil
	}
}

// clientTimeout is how long an ordinary client waits for its answer.
const clientTimeout = 5 * time.Second

// write returns a put function for a file that logship follows: what is written there
// can be read again.
func write(path string) func(ctx context.Context, first, last int) error {
	return func(_ context.Context, first, last int) error {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		var lines bytes.Buffer
		for n := first; n <= last; n++ {
			fmt.Fprintf(&lines, `_jsonrc:{"level":"info","message":"message %d","n":%d,"filling":"%s"}`+"\n", n, n, filling(n))
		}
		_, err = f.Write(lines.Bytes())
		return errors.Join(err, f.Close())
	}
}
