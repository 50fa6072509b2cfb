package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Latency is measured at a steady rate well below what each can do.
const (
	latencyRate    = 5000 // messages per second
	latencySeconds = 6
	latencyTick    = time.Millisecond
	mark           = "bench-" // before the number in each message
)

// benchLatency prints how long messages take from the write to the shipper until
// the receiver has them.
func benchLatency(dir string) error {
	fmt.Printf("\nsyslog TCP -> GELF TCP, no disk, %d messages/s\n\n| | p50 | p99 | max |\n|---|---|---|---|\n", latencyRate)
	for _, s := range peers() {
		fmt.Fprintf(os.Stderr, "bench: latency: %s\n", s.name)
		times, err := latency(s, dir)
		if err != nil {
			return fmt.Errorf("latency of %s: %w", s.name, err)
		}
		slices.Sort(times)
		at := func(q float64) time.Duration { return times[int(q*float64(len(times)-1))].Round(10 * time.Microsecond) }
		fmt.Printf("| %s | %v | %v | %v |\n", s.name, at(0.5), at(0.99), at(1))
	}
	return nil
}

// latency returns how long each message took, without those of the first second.
func latency(s shipper, dir string) ([]time.Duration, error) {
	p, err := launch(s, job{}, dir)
	if err != nil {
		return nil, err
	}
	const messages = latencyRate * latencySeconds
	log := arrivals{at: make([]time.Time, messages), all: make(chan struct{})}
	go log.listen(p.sink)
	sent, err := p.sendSteadily(messages)
	if err == nil {
		select {
		case <-log.all:
		case <-time.After(time.Minute):
			err = errors.New("not all messages came")
		}
	}
	if err := errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	times := make([]time.Duration, 0, messages)
	for i := latencyRate; i < messages; i++ {
		times = append(times, log.at[i].Sub(sent[i]))
	}
	return times, nil
}

// sendSteadily writes the messages of a tick at a time and returns when each was
// written.
func (p *running) sendSteadily(messages int) ([]time.Time, error) {
	c, err := net.Dial("tcp", p.in)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	sent := make([]time.Time, messages)
	ticker := time.NewTicker(latencyTick)
	defer ticker.Stop()
	start := time.Now()
	var b []byte
	for i := 0; i < messages; {
		<-ticker.C
		now := time.Now()
		due := min(messages, int(now.Sub(start).Seconds()*latencyRate))
		b = b[:0]
		for ; i < due; i++ {
			b = appendSyslog(b, fmt.Appendf(nil, `_jsonrc:{"level":"info","message":"%s%d","requestId":"%032x"}`, mark, i, i))
			sent[i] = now
		}
		if _, err := c.Write(b); err != nil {
			return nil, err
		}
	}
	return sent, nil
}

// arrivals notes when each message came.
type arrivals struct {
	mu  sync.Mutex
	at  []time.Time // guarded by mu
	n   int         // guarded by mu: that have come
	all chan struct{}
}

func (a *arrivals) listen(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go a.read(c)
	}
}

func (a *arrivals) read(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := c.Read(buf[len(buf):cap(buf)])
		now := time.Now()
		rest := buf[:len(buf)+n]
		for {
			frame, behind, ok := bytes.Cut(rest, []byte{0})
			if !ok {
				break
			}
			a.add(frame, now)
			rest = behind
		}
		buf = buf[:copy(buf[:cap(buf)], rest)]
		if err != nil {
			return
		}
	}
}

func (a *arrivals) add(frame []byte, now time.Time) {
	_, number, ok := bytes.Cut(frame, []byte(mark))
	if !ok {
		return
	}
	end := bytes.IndexByte(number, '"')
	i, err := strconv.Atoi(string(number[:max(end, 0)]))
	if err != nil || i >= len(a.at) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.at[i].IsZero() {
		return
	}
	a.at[i] = now
	if a.n++; a.n == len(a.at) {
		close(a.all)
	}
}
