package faults

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRow01Killed: a logship that is killed at any moment loses nothing that it has
// accepted, nor what it can read again.
func TestRow01Killed(t *testing.T) {
	for name, begin := range map[string]func(*setup, *testing.T, int){"spool": (*setup).begin, "file": (*setup).beginFile} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, 1)
			begin(s, t, 2000)
			for range rounds(10) {
				s.load.more(t, 1+rand.IntN(1000))
				s.killLogship(t)
				s.beginLogship(t)
				s.recover(t, 2*time.Second)
			}
			s.verdict(t)
		})
	}
}

// TestRow02Stopped: a logship that is stopped has sent and confirmed everything that it
// has read: nothing comes twice.
func TestRow02Stopped(t *testing.T) {
	for name, begin := range map[string]func(*setup, *testing.T, int){"spool": (*setup).begin, "file": (*setup).beginFile} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, 2)
			begin(s, t, 2000)
			for range rounds(3) {
				s.load.more(t, 1000)
				s.stopLogship(t)
				s.beginLogship(t)
				s.recover(t, 2*time.Second)
			}
			s.verdict(t)
		})
	}
}

// TestRow27Frozen: a logship that stands still, as in a suspended machine, goes on where
// it was.
func TestRow27Frozen(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	s := newSetup(t, 27)
	s.beginFile(t, 1000)
	thaw := freeze(t, s.logship.cmd.Process.Pid)
	s.load.more(t, 10*s.rate) // 10 s
	thaw()
	s.faults++
	s.recover(t, 5*time.Second)
	s.verdict(t)
}

// TestRow29StateLost: without a state file the spool goes on at its own cursor, a file at
// its start: copies, no loss.
func TestRow29StateLost(t *testing.T) {
	damages := map[string]func(path string, b []byte) error{
		"removed":   func(path string, _ []byte) error { return os.Remove(path) },
		"truncated": func(path string, b []byte) error { return os.Truncate(path, int64(len(b)/2)) },
		"garbage":   func(path string, b []byte) error { b[0] ^= 0x20; return os.WriteFile(path, b, 0o600) },
	}
	for name, begin := range map[string]func(*setup, *testing.T, int){"spool": (*setup).begin, "file": (*setup).beginFile} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, 29)
			begin(s, t, 2000)
			for _, damage := range damages {
				s.load.more(t, 500)
				s.stopLogship(t)
				path := filepath.Join(s.state, "state.json")
				b, err := os.ReadFile(path)
				must(t, err)
				must(t, damage(path, b))
				s.faults++
				s.beginLogship(t)
				s.recover(t, 2*time.Second)
			}
			if name == "spool" {
				s.faults = 0 // its cursor knows
			}
			s.verdict(t)
		})
	}
}

// TestRow32OldSpool: a spool that the first version of its format has written is shipped,
// with what comes, by processes that are killed and replaced.
func TestRow32OldSpool(t *testing.T) {
	t.Parallel()
	s := newSetup(t, 32)
	must(t, os.CopyFS(filepath.Join(s.state, "spool"), os.DirFS("../../internal/spool/testdata/version1")))
	const old = "082f6b121291a17b-1" // the event ID of its only message that is text
	s.stored = map[string]bool{old: false}
	s.begin(t, 1000)
	for range rounds(3) {
		s.load.more(t, 300)
		s.killLogship(t)
		s.beginLogship(t)
		s.recover(t, 2*time.Second)
	}
	s.verdict(t)
	if !s.stored[old] {
		t.Error("what the old version had stored has not come")
	}
}
