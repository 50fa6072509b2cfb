package faults

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sidecar/internal/journal/journaltest"
)

// journal is a directory with journal files, which grow as journald's do.
type journal struct {
	dir    string
	writer *journaltest.Writer // of system.journal
	files  int                 // archived
	skew   time.Duration       // of the clock
}

// beginJournal is begin with a load that is written to a journal.
func (s *setup) beginJournal(t *testing.T, rate int) *journal {
	t.Helper()
	j := &journal{dir: filepath.Join(s.dir, "journal")}
	must(t, os.Mkdir(j.dir, 0o700))
	j.open(t)
	s.set = append(s.set, "input.journald.enabled=true", "input.journald.directory="+j.dir, "input.journald.start=head")
	s.beginWith(t, rate, j.put)
	return j
}

func (j *journal) open(t *testing.T) {
	t.Helper()
	path := filepath.Join(j.dir, "system.journal")
	j.writer = journaltest.Start(t, path, journaltest.Default())
	until(t, patience, func() (bool, string) {
		_, err := os.Stat(path)
		return err == nil, "there is no journal file"
	})
}

// rotate archives the file that is written and begins another one, while the load
// pauses. It returns the path of the archived one.
func (j *journal) rotate(t *testing.T, l *load) string {
	t.Helper()
	l.pause()
	defer l.resume()
	j.writer.Close()
	j.files++
	archived := filepath.Join(j.dir, fmt.Sprintf("system@%d.journal", j.files))
	must(t, os.Rename(filepath.Join(j.dir, "system.journal"), archived))
	j.open(t)
	return archived
}

// put writes messages in the export format (systemd JOURNAL_EXPORT_FORMATS).
func (j *journal) put(_ context.Context, first, last int) error {
	var export []byte
	now := time.Now()
	for n := first; n <= last; n++ {
		export = fmt.Appendf(export, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%032x\nPRIORITY=6\n_TRANSPORT=stdout\n"+
			`MESSAGE=_jsonrc:{"level":"info","message":"message %d","n":%d,"filling":"%s"}`+"\n\n", now.Add(j.skew).UnixMicro(), n, 1, n, n, filling(n))
	}
	j.writer.Write(export)
	return nil
}

// TestRow26Clock: the clock goes back by a day and forward by a year, under way and
// while logship is stopped. What counts is the order in which messages were written.
func TestRow26Clock(t *testing.T) {
	journaltest.Need(t)
	t.Parallel()
	s := newSetup(t, 26)
	j := s.beginJournal(t, 1000)
	const day = 24 * time.Hour
	for i, skew := range []time.Duration{-day, 365 * day, 0, -day, 365 * day, 0} {
		s.load.more(t, 300)
		if i > 2 {
			s.stopLogship(t)
		}
		s.load.pause()
		j.skew = skew
		s.load.resume()
		if i > 2 {
			s.load.more(t, 300)
			s.beginLogship(t)
		}
		s.recover(t, time.Second)
	}
	s.verdict(t)
}

// TestRow28Journal: files are rotated, removed once they were shipped, and damaged,
// while they are read and while logship is stopped.
func TestRow28Journal(t *testing.T) {
	journaltest.Need(t)
	t.Parallel()
	s := newSetup(t, 28)
	j := s.beginJournal(t, 1000)
	for range rounds(2) {
		s.load.more(t, 500)
		archived := j.rotate(t, s.load)
		s.recover(t, time.Second)
		must(t, os.Remove(archived)) // all of it was read
		s.load.more(t, 500)
		j.rotate(t, s.load)
		s.load.more(t, 300)

		s.stopLogship(t)
		j.rotate(t, s.load)
		s.load.more(t, 1000)
		s.damage += damageFile(t, j.rotate(t, s.load))
		s.beginLogship(t)
		s.recover(t, 2*time.Second)
	}
	if got := s.verdict(t); got != s.damage || got == 0 {
		t.Errorf("%d messages are lost, %d were damaged", got, s.damage)
	}
}

// damageFile overwrites what stands in front of the text of every 100th message, the head
// of its DATA object (systemd JOURNAL_FILE_FORMAT), and returns how many these are. What
// rots in the text itself no reader of journal files notices.
func damageFile(t *testing.T, path string) (damaged int) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	for at, n := 0, 0; ; n++ {
		next := bytes.Index(b[at:], []byte("MESSAGE=_jsonrc:"))
		if next < 0 {
			break
		}
		at += next + 1
		if n%100 == 50 {
			copy(b[at-72:], bytes.Repeat([]byte{0xa5}, 64))
			damaged++
		}
	}
	must(t, os.WriteFile(path, b, 0o600))
	return damaged
}
