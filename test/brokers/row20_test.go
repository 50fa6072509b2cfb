package brokers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	kills    = 2
	feedRate = 2000 // lines a second
)

// feed writes numbered lines to w until stop is closed and returns how many. The
// rate is one that is under way whenever the broker is killed.
func feed(w io.WriteCloser, stop <-chan struct{}) (n int, err error) {
	const every = 10 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	b := bufio.NewWriter(w)
	for {
		select {
		case <-stop:
			return n, w.Close()
		case <-tick.C:
		}
		for range feedRate * every / time.Second {
			fmt.Fprintf(b, "line %d\n", n)
			n++
		}
		if err := b.Flush(); err != nil {
			return n, err
		}
	}
}

// row20 runs logship while lines come in and the broker is killed and started again,
// and returns how many lines there were. It ends with exit code 0, so all are confirmed.
func row20(t *testing.T, e *engine, url string) int {
	t.Helper()
	cmd := exec.Command(logship, "run", "--stdin", "--set", "output.url="+url, "--set", "metrics.listen=", "--set", "host.name=web-01")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	must(t, err, cmd.Start())
	defer cmd.Process.Kill()
	stop := make(chan struct{})
	fed := make(chan error, 1)
	n := 0
	go func() {
		var err error
		n, err = feed(in, stop)
		fed <- err
	}()
	for range kills {
		<-time.After(time.Second) // the fault comes at a time of its own
		e.kill()
		e.start(t)
	}
	<-time.After(time.Second)
	close(stop)
	must(t, <-fed)
	begin := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-within(t, time.Minute).Done():
		cmd.Process.Kill()
		err = fmt.Errorf("not in a minute: %w", <-ended)
	}
	t.Logf("%d lines, %v after the last\n%s", n, time.Since(begin).Round(time.Millisecond), said.String())
	if err != nil {
		t.Fatalf("logship ends: %v", err)
	}
	return n
}

// arrivals counts documents by the number of their line, and looks at each.
type arrivals struct {
	seen []int
	last int // number of the last one
	back int // times that the numbers went back
}

func (a *arrivals) add(t *testing.T, body []byte) {
	t.Helper()
	var d struct {
		Version string `json:"version"`
		Host    string `json:"host"`
		Short   string `json:"short_message"`
		ID      string `json:"_event_id"`
	}
	must(t, json.Unmarshal(body, &d))
	var i int
	if _, err := fmt.Sscanf(d.Short, "line %d", &i); err != nil || d.Version != "1.1" || d.Host != "web-01" || d.ID == "" || i >= len(a.seen) {
		t.Fatalf("%s: %v", body, err)
	}
	if i < a.last {
		a.back++
	}
	a.last = i
	a.seen[i]++
}

// verdict returns how many lines came twice. That one did not come at all is an error.
func (a *arrivals) verdict(t *testing.T) (duplicates int) {
	t.Helper()
	lost := 0
	for _, n := range a.seen {
		if n == 0 {
			lost++
		}
		duplicates += max(n-1, 0)
	}
	if lost > 0 {
		t.Errorf("%d lines of %d are lost", lost, len(a.seen))
	}
	t.Logf("%d lines, %d duplicates, %d steps back", len(a.seen), duplicates, a.back)
	return duplicates
}

// TestRow20Kafka: a broker that is killed and comes back gets everything, once and in
// order, as the client itself sends again.
func TestRow20Kafka(t *testing.T) {
	e := kafkaBroker(t)
	c, err := kgo.NewClient(kgo.SeedBrokers(e.address), kgo.ConsumeTopics("gelf"))
	must(t, err)
	defer c.Close()
	_, err = kadm.NewClient(c).CreateTopic(within(t, time.Minute), 3, 1, nil, "gelf")
	must(t, err)
	a := arrivals{seen: make([]int, row20(t, e, "kafka://"+e.address+"/gelf"))}
	for total := 0; total < len(a.seen); {
		fetches := c.PollFetches(within(t, time.Minute))
		must(t, fetches.Err())
		for _, r := range fetches.Records() {
			if string(r.Key) != "web-01" {
				t.Fatalf("key %q of %s", r.Key, r.Value)
			}
			a.add(t, r.Value)
			total++
		}
	}
	if d := a.verdict(t); d > 0 || a.back > 0 {
		t.Errorf("%d duplicates and %d steps back within one session", d, a.back)
	}
}

// TestRow20AMQP: a broker that is killed and comes back has everything that it
// confirmed, and gets the rest; twice comes at most what was not confirmed.
func TestRow20AMQP(t *testing.T) {
	e := rabbitmq(t)
	n := row20(t, e, "amqp://"+e.address+"?queue=gelf")
	ch := e.dial(t)
	bodies := take(t, ch, "gelf")
	a := arrivals{seen: make([]int, n)}
	for _, body := range bodies {
		a.add(t, []byte(body))
	}
	const unconfirmed = 4 << 20 // bytes that the line sends before it waits
	size := len(strings.Join(bodies, "")) / len(bodies)
	if d := a.verdict(t); d*size > kills*unconfirmed || a.back > kills {
		t.Errorf("%d duplicates of %d bytes each, %d steps back", d, size, a.back)
	}
}
