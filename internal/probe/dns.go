package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"sidecar/internal/health"
)

// dns asks one server one question over UDP.
type dns struct {
	at       endpoint
	name     dnsmessage.Name
	kind     dnsmessage.Type
	expect   []string
	counters *Counters
}

// dnsCheck is the check of a name server: dns://server[:53]/name, or of the system's
// resolver: dns:name.
//
// Options: type (A, AAAA, MX, NS, TXT, SOA, CNAME), expect (addresses, all of which the
// answer must have).
func dnsCheck(t *target) (Func, error) {
	kinds := map[string]dnsmessage.Type{"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "MX": dnsmessage.TypeMX,
		"NS": dnsmessage.TypeNS, "TXT": dnsmessage.TypeTXT, "SOA": dnsmessage.TypeSOA, "CNAME": dnsmessage.TypeCNAME}
	c := &dns{kind: kinds[t.opt.oneOf("type", "A", "A", "AAAA", "MX", "NS", "TXT", "SOA", "CNAME")], counters: t.env.Counters}
	c.expect = t.opt.list("expect", "")
	for i, s := range c.expect {
		a, err := netip.ParseAddr(s)
		if err != nil {
			t.opt.bad("expect", fmt.Errorf("want addresses, found %q", cutText(s, 64)))
		}
		c.expect[i] = a.String()
	}
	name := t.rest
	if t.url != nil {
		at, err := t.hostPort("53")
		if err != nil {
			return nil, err
		}
		at.network = "udp"
		c.at, name = at, strings.Trim(t.url.Path, "/")
	}
	if name == "" || strings.ContainsAny(name, "/ ") {
		return nil, errors.New("want dns://server/name or dns:name")
	}
	if t.url == nil {
		if c.kind != dnsmessage.TypeA {
			t.opt.bad("type", errors.New("the system's resolver is asked for addresses only"))
		}
		return func(ctx context.Context) health.Result { return c.system(ctx, name) }, nil
	}
	var err error
	c.name, err = dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	return c.run, err
}

// system asks as every program of this machine does.
func (c *dns) system(ctx context.Context, name string) health.Result {
	found, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return failed("look up "+cutText(name, 100), err)
	}
	return c.judge(found)
}

func (c *dns) run(ctx context.Context) health.Result {
	w, err := c.at.dial(ctx)
	if err != nil {
		return failed("connect", err)
	}
	defer w.Close()
	id := uint16(rand.Uint32())
	question := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: c.name, Type: c.kind, Class: dnsmessage.ClassINET}}}
	packet, err := question.Pack()
	if err != nil {
		return fail("ask: %v", err)
	}
	if _, err := w.Write(packet); err != nil {
		return failed("ask", err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := w.Read(buf)
		if err != nil {
			return failed("ask", err)
		}
		r, mine := c.answer(buf[:n], id)
		if mine {
			return r
		}
	}
}

// answer reads a response, false if it is not to our question: a late one to an
// earlier question, or a forged one.
func (c *dns) answer(packet []byte, id uint16) (health.Result, bool) {
	var p dnsmessage.Parser
	head, err := p.Start(packet)
	if err != nil || head.ID != id || !head.Response {
		return health.Result{}, false
	}
	q, err := p.AllQuestions()
	if err != nil || len(q) > 1 || len(q) == 1 && (q[0].Type != c.kind || !strings.EqualFold(q[0].Name.String(), c.name.String())) {
		return health.Result{}, false
	}
	if head.RCode != dnsmessage.RCodeSuccess {
		return fail("the answer is %s", strings.TrimPrefix(head.RCode.String(), "RCode")), true
	}
	if head.Truncated && len(c.expect) == 0 {
		return pass("answers, with more than fits a datagram"), true
	}
	var found []string
	for {
		rr, err := p.Answer()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			c.counters.Malformed.Add(1)
			return fail("the answer cannot be read"), true
		}
		if rr.Header.Type != c.kind {
			continue // a CNAME on the way
		}
		switch body := rr.Body.(type) {
		case *dnsmessage.AResource:
			found = append(found, netip.AddrFrom4(body.A).String())
		case *dnsmessage.AAAAResource:
			found = append(found, netip.AddrFrom16(body.AAAA).String())
		default:
			found = append(found, strings.TrimPrefix(c.kind.String(), "Type"))
		}
	}
	return c.judge(found), true
}

// judge compares what was found with what is expected.
func (c *dns) judge(found []string) health.Result {
	if len(found) == 0 {
		return fail("no such record")
	}
	for _, want := range c.expect {
		if !slices.Contains(found, want) {
			return fail("the answer has no %s", want)
		}
	}
	return pass("answers")
}
