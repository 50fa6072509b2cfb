package discover

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

// errEnded means that D-Bus closed the connection.
var errEnded = errors.New("D-Bus closed the connection")

// session follows over one connection until it ends. up is called when everything is
// known.
func (f *Follower) session(ctx context.Context, up func()) error {
	b, err := connect(ctx, f.o.Address)
	if err != nil {
		return err
	}
	defer b.close()
	signals, err := b.follow(ctx)
	if err != nil {
		return err
	}
	v := newView(b, f.o)
	if err := v.scan(ctx); err != nil {
		return err
	}
	defer f.lose()
	f.publish(v)
	up()
	f.o.OnBus(true)
	wait := newPending()
	defer wait.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-signals:
			if !ok {
				return errEnded
			}
			if err := f.take(ctx, v, wait, s); err != nil {
				return err
			}
		case <-wait.timer.C:
			if err := wait.catchUp(ctx, v); err != nil {
				return err
			}
			f.publish(v)
		}
	}
}

// pending is what changed and is looked at when things have settled.
type pending struct {
	timer *time.Timer
	all   bool
	units map[string]bool
}

func newPending() *pending {
	timer := time.NewTimer(settle)
	timer.Stop()
	return &pending{timer: timer, units: map[string]bool{}}
}

// note remembers a unit to look at, "" for all. The first change starts the time, so
// that endless changes do not put it off for ever.
func (p *pending) note(unit string) {
	if !p.all && len(p.units) == 0 {
		p.timer.Reset(settle)
	}
	if unit == "" {
		p.all = true
		return
	}
	p.units[unit] = true
}

// catchUp looks at what changed.
func (p *pending) catchUp(ctx context.Context, v *view) error {
	units, all := slices.Sorted(maps.Keys(p.units)), p.all
	clear(p.units)
	p.all = false
	if all {
		return v.scan(ctx)
	}
	for _, name := range units {
		if err := v.inspect(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// take takes a signal.
func (f *Follower) take(ctx context.Context, v *view, wait *pending, s *dbus.Signal) error {
	switch s.Name {
	case properties + ".PropertiesChanged":
		name, changed := v.update(s)
		if !changed {
			return nil
		}
		f.setState(name, v.states[name])
		if u, ours := v.units[name]; ours && (u.enabled != v.states[name].Enabled || u.running != (v.states[name].Active != "inactive")) {
			wait.note(name)
		}
	case manager + ".UnitNew", manager + ".UnitRemoved":
		if len(s.Body) > 0 {
			if name, ok := s.Body[0].(string); ok && v.isWatched(name) {
				wait.note(name)
			}
		}
	case manager + ".UnitFilesChanged":
		wait.note("")
	case manager + ".Reloading":
		// true at the start of a daemon-reload, false at its end.
		if len(s.Body) > 0 && s.Body[0] == false {
			wait.note("")
		}
	case "org.freedesktop.DBus.NameOwnerChanged":
		// systemd was started anew (daemon-reexec) or came back: it may have forgotten
		// who subscribed. Without an owner there is nobody to ask.
		if len(s.Body) == 3 && s.Body[2] != "" {
			wait.note("")
			return v.bus.subscribeAgain(ctx)
		}
	}
	return nil
}

// publish makes what v knows everybody's knowledge: first the states, so that whoever is
// told of the set finds them.
func (f *Follower) publish(v *view) {
	set := v.set()
	changed := map[string]State{}
	known := map[string]bool{}
	f.mu.Lock()
	f.bus = v.bus
	note := func(unit string) {
		known[unit] = true
		if old, ok := f.states[unit]; !ok || old != v.states[unit] {
			changed[unit] = v.states[unit]
		}
		f.states[unit] = v.states[unit]
	}
	for _, app := range set.Apps {
		for _, w := range app.Workers {
			note(w.Unit)
		}
	}
	for _, unit := range f.o.Units {
		note(unit)
	}
	maps.DeleteFunc(f.states, func(unit string, _ State) bool { return !known[unit] })
	f.mu.Unlock()
	if f.last == nil || !reflect.DeepEqual(f.last, set) {
		f.last = set
		f.o.OnSet(set)
	}
	for _, unit := range slices.Sorted(maps.Keys(changed)) {
		f.o.OnState(unit, changed[unit])
	}
}
