// Package deadletter keeps the messages that a receiver does not take, in a file
// of JSON lines that people and programs can read. The shipper appends while
// others list, send again and remove.
//
// A crash leaves every letter that was appended before, and at worst one line
// that is cut off; it is skipped and counted when the file is read.
package deadletter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sidecar/internal/atomicfile"
)

// Letter is a message that was given up.
type Letter struct {
	// Time is when that was.
	Time time.Time `json:"time"`
	// Reason says why, in a few words.
	Reason string `json:"reason"`
	// EventID is the message's _event_id, if it has one.
	EventID string `json:"event_id,omitempty"`
	// Message is the GELF 1.1 document as it was sent.
	Message json.RawMessage `json:"message"`
}

// File is a file of letters. Its methods may be used by several processes at once:
// each holds a lock on the file beside it, with ".lock" behind its name.
type File struct {
	Path string
	// MaxBytes bounds the file: above it the oldest letters go.
	MaxBytes int64
}

// maxLine is more than a line can have: Graylog rule R13 bounds the message.
const maxLine = 4 << 20

// Append adds a letter and makes it durable. dropped is how many of the oldest
// letters had to go for it.
func (f File) Append(l Letter) (dropped int, err error) {
	err = f.locked(func() error {
		line, err := encode(&l)
		if err != nil {
			return err
		}
		if info, err := os.Stat(f.Path); err == nil && info.Size()+int64(len(line)) > f.MaxBytes {
			if dropped, err = f.makeRoom(int64(len(line))); err != nil {
				return err
			}
		}
		return appendLine(f.Path, line)
	})
	if err != nil {
		return dropped, fmt.Errorf("append to the dead-letter file: %w", err)
	}
	return dropped, nil
}

func encode(l *Letter) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(l)
	return b.Bytes(), err
}

func appendLine(path string, line []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size > 0 {
		var last [1]byte
		if _, err := file.ReadAt(last[:], size-1); err != nil {
			return err
		}
		if last[0] != '\n' { // a crash cut the last one off
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err := file.Write(line); err != nil {
		// What was written of it would be taken for a letter that was cut off.
		return errors.Join(err, file.Truncate(size))
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if size > 0 {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// makeRoom removes the oldest letters until at least half of the file is free,
// and n bytes.
func (f File) makeRoom(n int64) (dropped int, err error) {
	var lines [][]byte
	var size int64
	if _, err := f.lines(func(line []byte, _ Letter) error {
		lines = append(lines, bytes.Clone(line))
		size += int64(len(line)) + 1
		return nil
	}); err != nil {
		return 0, err
	}
	for len(lines) > 0 && size+n > max(f.MaxBytes/2, n) {
		size -= int64(len(lines[0])) + 1
		lines = lines[1:]
		dropped++
	}
	return dropped, f.replace(lines)
}

func (f File) replace(lines [][]byte) error {
	var all []byte
	for _, line := range lines {
		all = append(append(all, line...), '\n')
	}
	return atomicfile.Replace(f.Path, all)
}

// Read calls each with every letter, oldest first, until it returns an error. bad
// is how many lines are no letters. A file that does not exist holds none.
func (f File) Read(each func(Letter) error) (bad int, err error) {
	return f.lines(func(_ []byte, l Letter) error { return each(l) })
}

// lines calls each with every line that is a letter; the line is valid during the
// call.
func (f File) lines(each func(line []byte, l Letter) error) (bad int, err error) {
	file, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the dead-letter file: %w", err)
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		var l Letter
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil || l.Message == nil {
			bad++
			continue
		}
		if err := each(scanner.Bytes(), l); err != nil {
			return bad, err
		}
	}
	if err := scanner.Err(); err != nil {
		return bad, fmt.Errorf("read the dead-letter file %s: %w", f.Path, err)
	}
	return bad, nil
}

// Remove takes out the letters for which gone returns true, and lines that are no
// letters.
func (f File) Remove(gone func(Letter) bool) error {
	err := f.locked(func() error {
		var lines [][]byte
		if _, err := f.lines(func(line []byte, l Letter) error {
			if !gone(l) {
				lines = append(lines, bytes.Clone(line))
			}
			return nil
		}); err != nil {
			return err
		}
		return f.replace(lines)
	})
	if err != nil {
		return fmt.Errorf("remove from the dead-letter file: %w", err)
	}
	return nil
}

// locked calls do while no other process appends or removes.
func (f File) locked(do func() error) error {
	lock, err := os.OpenFile(f.Path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return do()
}
