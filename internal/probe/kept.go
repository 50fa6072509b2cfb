package probe

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// kept is what checks remember by name, also over a restart. The zero value is empty.
// All methods may be called concurrently.
type kept[T any] struct {
	mu   sync.Mutex
	last map[string]T // guarded by mu
}

func (k *kept[T]) get(name string) (v T, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok = k.last[name]
	return v, ok
}

// change sets a name to what f makes of what it was, and reports whether f wanted to.
func (k *kept[T]) change(name string, f func(was T, known bool) (is T, ok bool)) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	was, known := k.last[name]
	is, ok := f(was, known)
	if ok {
		if k.last == nil {
			k.last = map[string]T{}
		}
		k.last[name] = is
	}
	return ok
}

// MarshalJSON returns what is remembered, an object by name, to be given to
// UnmarshalJSON after a restart.
func (k *kept[T]) MarshalJSON() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return json.Marshal(k.last)
}

// UnmarshalJSON adds what MarshalJSON returned. Names that no check is for remain until
// Env.Keep.
func (k *kept[T]) UnmarshalJSON(b []byte) error {
	var saved map[string]T
	if err := json.Unmarshal(b, &saved); err != nil {
		return fmt.Errorf("read what checks remember: %w", err)
	}
	for name, v := range saved {
		k.change(name, func(T, bool) (T, bool) { return v, true })
	}
	return nil
}

// keep forgets all other names.
func (k *kept[T]) keep(names map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.last {
		if !names[name] {
			delete(k.last, name)
		}
	}
}

// Certificates remembers the last certificate that each check has seen: its end is known
// also while the target cannot be reached. The zero value is empty. All methods may be
// called concurrently.
type Certificates struct{ kept[seenCertificate] } // by Check.Key

// seenCertificate is the one of a chain that ends first.
type seenCertificate struct {
	NotAfter time.Time `json:"not_after"`
	Seen     time.Time `json:"seen"`
}

// Keep makes Heartbeats and Certificates forget all but the checks with these Keys.
func (e Env) Keep(keys []string) {
	jobs, all := map[string]bool{}, map[string]bool{}
	for _, key := range keys {
		all[key] = true
		if job, ok := strings.CutPrefix(key, "heartbeat:"); ok {
			jobs[job[:strings.LastIndexByte(job, '#')]] = true
		}
	}
	if e.Heartbeats != nil {
		e.Heartbeats.keep(jobs)
	}
	if e.Certificates != nil {
		e.Certificates.keep(all)
	}
}
