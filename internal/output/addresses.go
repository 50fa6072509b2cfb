package output

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

// lookupTimeout bounds one question for the addresses of a name: the system's own
// patience is twice as long as a connection should take.
const lookupTimeout = 2 * time.Second

// Resolver says how the addresses of a host name are found. The zero value asks
// the system for every connection.
type Resolver struct {
	// Lookup returns the addresses of a host name, or of one that is an address; nil
	// asks the system. It is given 2 seconds, and the last good answer outlives its
	// failures.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Refresh is how long an answer is used.
	Refresh time.Duration
	// Shuffle takes the addresses in random order, so that a fleet spreads over them.
	Shuffle bool
}

// addresses are those of a host, kept over the death of its name server. It is
// used by one attempt to connect at a time. Attempts for the next connection run
// beside the current one, so asking holds nothing up.
type addresses struct {
	Resolver
	host  string
	known []netip.Addr // the last good answer, those that did not work last
	asked time.Time    // when known was got; zero: ask again
}

func newAddresses(host string, r Resolver) addresses {
	if r.Lookup == nil {
		r.Lookup = lookupIP
	}
	return addresses{Resolver: r, host: host}
}

// get returns the addresses to try, in order. An answer that is too old is used
// if there is no new one.
func (a *addresses) get(ctx context.Context) ([]netip.Addr, error) {
	if len(a.known) > 0 && !a.asked.IsZero() && time.Since(a.asked) < a.Refresh {
		return a.known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := a.Lookup(ctx, a.host)
	switch {
	case err == nil && len(found) > 0:
		if a.Shuffle {
			rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
		}
		a.known, a.asked = found, time.Now()
	case len(a.known) == 0:
		return nil, cmp.Or(err, fmt.Errorf("lookup %s: no address", a.host))
	default:
		a.asked = time.Now() // not at every connection
	}
	return a.known, nil
}

// failed says that no connection could be opened to addr: it is tried last, and
// the name server is asked again before that.
func (a *addresses) failed(addr netip.Addr) {
	a.asked = time.Time{}
	rest := slices.DeleteFunc(slices.Clone(a.known), func(k netip.Addr) bool { return k == addr })
	a.known = append(rest, addr)
}

// lookupIP asks the system's resolver.
func lookupIP(ctx context.Context, host string) ([]netip.Addr, error) {
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found, err
}
