package output

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// names is a name server.
type names struct {
	all   []string
	err   error
	dead  bool // does not answer
	asked int
}

func (n *names) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	n.asked++
	if n.dead {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var found []netip.Addr
	for _, a := range n.all {
		found = append(found, netip.MustParseAddr(a))
	}
	return found, n.err
}

func TestAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &names{all: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}}
		a := newAddresses("graylog.example", Resolver{Lookup: n.lookup, Refresh: time.Minute})
		want := func(asked int, took time.Duration, all ...string) {
			t.Helper()
			start := time.Now()
			got, err := a.get(t.Context())
			var text []string
			for _, addr := range got {
				text = append(text, addr.String())
			}
			if err != nil || !slices.Equal(text, all) || n.asked != asked || time.Since(start) != took {
				t.Errorf("%v, %v, asked %d times, took %v; want %v, %d, %v", text, err, n.asked, time.Since(start), all, asked, took)
			}
		}
		want(1, 0, n.all...)
		time.Sleep(time.Minute - time.Nanosecond)
		want(1, 0, n.all...)
		n.all = []string{"192.0.2.4", "192.0.2.5"}
		time.Sleep(time.Nanosecond)
		want(2, 0, n.all...)
		// What does not work is tried last, and asked for again.
		a.failed(netip.MustParseAddr("192.0.2.4"))
		n.err = errors.New("no such host")
		want(3, 0, "192.0.2.5", "192.0.2.4")
		want(3, 0, "192.0.2.5", "192.0.2.4") // the failure counts as an answer
		n.err, n.dead = nil, true
		time.Sleep(time.Minute)
		want(4, lookupTimeout, "192.0.2.5", "192.0.2.4")
		want(4, 0, "192.0.2.5", "192.0.2.4")
		n.dead = false
		time.Sleep(time.Minute)
		want(5, 0, n.all...)
	})
}

func TestNoAddress(t *testing.T) {
	for _, n := range []*names{{}, {err: errors.New("no such host")}} {
		a := newAddresses("graylog.example", Resolver{Lookup: n.lookup})
		if got, err := a.get(t.Context()); err == nil {
			t.Errorf("got %v", got)
		}
	}
}

// All addresses of a name are tried: the first has no listener.
func TestDialTriesAllAddresses(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	n := &names{all: []string{"127.0.0.2", "127.0.0.1"}}
	d := newDialer(net.JoinHostPort("graylog.example", port), Resolver{Lookup: n.lookup, Refresh: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 2 {
		c, err := d.dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		n.err = errors.New("not asked twice")
	}
	if got := d.hosts.known; got[0].String() != "127.0.0.1" {
		t.Errorf("%v: the one that works is not first", got)
	}
	ln.Close()
	_, err = d.dial(ctx)
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" || strings.Count(err.Error(), "refused") != 2 {
		t.Errorf("got %v", err)
	}
}
