// Package takeover reads where other log shippers stopped reading the systemd
// journal: Vector, rsyslog (imjournal), Fluent Bit, Filebeat and Journalbeat all
// keep the cursor of an entry, each in a file of its own format. Those files are
// read and never written. Their formats are those of the programs' sources; each
// function names the place.
//
// The package does not know what becomes of a cursor, and does not look into the
// journal.
package takeover

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"sidecar/internal/journal"
)

// Checkpoint is where one input of a shipper stood: behind the entry of Cursor.
type Checkpoint struct {
	// Input is the shipper's own name of the input, "" if it has only one.
	Input string
	// Cursor is never zero.
	Cursor journal.Cursor
}

// Shippers returns the names that Read takes.
func Shippers() []string {
	return []string{"vector", "rsyslog", "fluent-bit", "filebeat", "journalbeat"}
}

// Known returns an error that names the shippers if shipper is none of them.
func Known(shipper string) error {
	if !slices.Contains(Shippers(), shipper) {
		return fmt.Errorf("unknown shipper %.64q: want %s", shipper, strings.Join(Shippers(), ", "))
	}
	return nil
}

// Read returns the checkpoints of a shipper, at least one, the one with the oldest
// entry first. path is the file, for filebeat the directory, that holds its state;
// the shipper should not be running. An error says what the file is not, or is
// that of Known.
func Read(shipper, path string) ([]Checkpoint, error) {
	if err := Known(shipper); err != nil {
		return nil, err
	}
	read := map[string]func(string) ([]Checkpoint, error){
		"vector":      readVector,
		"rsyslog":     readRsyslog,
		"fluent-bit":  readFluentBit,
		"filebeat":    readFilebeat,
		"journalbeat": readJournalbeat,
	}[shipper]
	found, err := read(path)
	if err == nil && len(found) == 0 {
		err = errors.New("it holds no cursor of the journal")
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of %s in %s: %w", shipper, path, err)
	}
	slices.SortStableFunc(found, func(a, b Checkpoint) int {
		return cmp.Or(cmp.Compare(a.Cursor.RealtimeUsec, b.Cursor.RealtimeUsec), cmp.Compare(a.Input, b.Input))
	})
	return found, nil
}

// maxFileBytes bounds what is read of a file: Filebeat's log has 10 MiB before it
// is replaced.
const maxFileBytes = 64 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(b) > maxFileBytes {
		err = fmt.Errorf("it is larger than %d MiB", maxFileBytes>>20)
	}
	return b, err
}

// cursor returns the checkpoint for s.
func cursor(input, s string) ([]Checkpoint, error) {
	c, err := journal.ParseCursor(s)
	if err != nil {
		return nil, err
	}
	if c.IsZero() {
		return nil, nil
	}
	return []Checkpoint{{Input: input, Cursor: c}}, nil
}

// readVector reads checkpoint.txt in the data directory of a source of type
// journald (vector src/sources/journald.rs, Checkpointer): a line with the cursor.
// It is written over what was there before, so the rest may be of a longer one.
func readVector(path string) ([]Checkpoint, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	line, _, whole := strings.Cut(string(b), "\n")
	if !whole && line != "" {
		return nil, errors.New("its line has no end: it was not written to its end")
	}
	return cursor("", line)
}

// readRsyslog reads the file that StateFile= of imjournal names, in rsyslog's
// workDirectory (rsyslog plugins/imjournal/imjournal.c, persistJournalState and
// loadJournalState): one word, the cursor.
func readRsyslog(path string) ([]Checkpoint, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	words := strings.Fields(string(b))
	if len(words) == 0 {
		return nil, nil
	}
	return cursor("", words[0])
}

// readJournalbeat reads the file that journalbeat.registry_file names (beats 7.15
// journalbeat/checkpoint/checkpoint.go, PersistedState): YAML as yaml.v2 writes
// it, a list of flat maps under journal_entries.
func readJournalbeat(path string) ([]Checkpoint, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	_, list, ok := strings.Cut("\n"+string(b), "\njournal_entries:")
	if !ok {
		return nil, errors.New("it has no journal_entries")
	}
	var found []Checkpoint
	input := ""
	for line := range strings.Lines(list) {
		key, value, _ := strings.Cut(strings.TrimLeft(strings.TrimSpace(line), "- "), ": ")
		switch key {
		case "path":
			input = value
		case "cursor":
			c, err := cursor(input, strings.Trim(value, `"'`))
			if err != nil {
				return nil, err
			}
			found = append(found, c...)
		}
	}
	return found, nil
}

// readFluentBit reads the file that DB of an input of type systemd names
// (fluent-bit plugins/in_systemd/systemd_db.h): an SQLite database with the table
// in_systemd_cursor (cursor, updated), of which the last row counts.
func readFluentBit(path string) ([]Checkpoint, error) {
	db, err := openDatabase(path)
	if err != nil {
		return nil, err
	}
	last := ""
	err = db.table("in_systemd_cursor", func(row []value) {
		if last = ""; len(row) > 0 {
			last = row[0].text
		}
	})
	if err != nil {
		return nil, err
	}
	return cursor("", last)
}
