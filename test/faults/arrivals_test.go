package faults

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

// arrivals is what receivers wrote, a file for each: one that is killed may leave half
// a line at the end of its file.
type arrivals struct {
	paths  []string
	offset int64 // of what was read of the last file

	first      map[int]string // event IDs by number: the first copy's
	ids        map[string]bool
	copies     int               // messages with an event ID that was there
	disordered int               // first copies of a number that come behind a higher one's
	again      int               // other messages with a number that was there
	bytes      int               // of all lines
	messages   int               // all lines
	gaps       map[string]uint64 // what messages say is missing, by reason
	bad        []string          // what was never sent
	torn       int               // messages whose connection ended in the middle of them, which Graylog does not take
	latest     int               // the highest number
	stored     map[string]bool   // event IDs of messages that were there before, and whether they have come
}

func newArrivals() *arrivals {
	return &arrivals{first: map[int]string{}, ids: map[string]bool{}, gaps: map[string]uint64{}}
}

// next says that from now on messages arrive in another file.
func (a *arrivals) next(t *testing.T, path string) {
	t.Helper()
	a.load(t)
	a.paths, a.offset = append(a.paths, path), 0
}

// load reads what has come since the last time. A line that is not complete waits.
func (a *arrivals) load(t *testing.T) {
	t.Helper()
	if len(a.paths) == 0 {
		return
	}
	f, err := os.Open(a.paths[len(a.paths)-1])
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	defer f.Close()
	_, err = f.Seek(a.offset, io.SeekStart)
	must(t, err)
	for lines := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		a.offset += int64(len(line))
		a.add(line)
	}
}

func (a *arrivals) add(line []byte) {
	var m struct {
		N       int    `json:"_n"`
		Filling string `json:"_filling"`
		ID      string `json:"_event_id"`
		Gap     string `json:"_gap_reason"`
		Entries uint64 `json:"_gap_entries"`
	}
	a.bytes += len(line)
	a.messages++
	err := json.Unmarshal(line, &m)
	switch {
	case line[0] == '"': // what is no JSON is written as a string
		a.torn++
		return
	case err != nil || m.ID == "":
		a.bad = append(a.bad, fmt.Sprintf("%.200q: %v", line, err))
	case a.ids[m.ID]:
		a.copies++
	case known(a.stored, m.ID):
		a.stored[m.ID] = true
	case m.Gap != "":
		a.gaps[m.Gap] += m.Entries
	case m.Filling != filling(m.N):
		a.bad = append(a.bad, fmt.Sprintf("message %d is not as it was sent: %.200q", m.N, line))
	case a.first[m.N] != "":
		a.again++
	default:
		if m.N < a.latest {
			a.disordered++
		}
		a.first[m.N] = m.ID
		a.latest = max(a.latest, m.N)
	}
	a.ids[m.ID] = true
}

func known(set map[string]bool, key string) bool { _, found := set[key]; return found }

// fillingBytes is the length of what a message carries beside its number.
const fillingBytes = 200

// filling returns what message n carries: it follows from n.
func filling(n int) string {
	if n < 1 {
		return "no message has this number"
	}
	text := fmt.Sprintf("%d of the matrix ", n)
	return strings.Repeat(text, fillingBytes/len(text))
}

// await loads what comes until done is true.
func (a *arrivals) await(t *testing.T, done func() (ok bool, state string)) {
	t.Helper()
	until(t, patience, func() (bool, string) {
		a.load(t)
		return done()
	})
}

// until asks every few milliseconds until done is true.
func until(t *testing.T, limit time.Duration, done func() (ok bool, state string)) {
	t.Helper()
	end := time.NewTimer(limit)
	defer end.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, state := done()
		if ok {
			return
		}
		select {
		case <-ticker.C:
		case <-end.C:
			t.Fatalf("after %v: %s", limit, state)
		}
	}
}
