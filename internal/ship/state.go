package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"sidecar/internal/atomicfile"
	"sidecar/internal/rules"
)

// State is what is known to be confirmed. On disk it is the file state.json; its
// layout and crash contract stand in ARCHITECTURE.md.
type State struct {
	// Version is stateVersion; Save writes that.
	Version int `json:"version"`
	// Seq is the sequence number of the last confirmed message.
	Seq uint64 `json:"seq"`
	// Sources maps a source's name to its position.
	Sources map[string]json.RawMessage `json:"sources"`
	// Limits is the state of the rate limits at that position.
	Limits []rules.UnitState `json:"limits,omitempty"`

	// Of this process only: Line.read and Gaps.position at this position.
	read, gaps uint64
}

const (
	stateVersion = 1
	stateName    = "state.json"
)

// ErrLocked means that another process uses the state directory.
var ErrLocked = errors.New("state directory is used by another process")

// StateDir is the directory that holds the state file. It is locked while open.
type StateDir struct {
	path string
	lock *os.File // the directory itself
}

// OpenStateDir creates the directory at path if needed and locks it.
func OpenStateDir(path string) (*StateDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create the state directory: %w", err)
	}
	if err := unix.Access(path, unix.W_OK|unix.X_OK); err != nil {
		return nil, fmt.Errorf("write to the state directory %s: %w", path, err)
	}
	lock, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &StateDir{path: path, lock: lock}, nil
}

// Path returns the path of a file in the directory.
func (d *StateDir) Path(name string) string { return filepath.Join(d.path, name) }

// Close releases the lock.
func (d *StateDir) Close() error { return d.lock.Close() }

// ErrBadState means that the state file is not usable. It was renamed to
// state.json.bad.
var ErrBadState = errors.New("state file is damaged")

// Load reads the state file. Without one it returns nil and no error. With
// ErrBadState the caller starts from the oldest entries: duplicates, not loss.
func (d *StateDir) Load() (*State, error) {
	path := filepath.Join(d.path, stateName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	var v struct{ Version int }
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, d.setAside(path, err)
	}
	if v.Version > stateVersion {
		return nil, fmt.Errorf("read the state: %s has version %d, this logship knows up to %d: install the newer one again", path, v.Version, stateVersion)
	}
	s := new(State)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err = dec.Decode(s)
	if err == nil && (v.Version < 1 || s.Sources == nil) {
		err = errors.New("version or sources missing")
	}
	if err != nil {
		return nil, d.setAside(path, err)
	}
	return s, nil
}

func (d *StateDir) setAside(path string, cause error) error {
	if err := os.Rename(path, path+".bad"); err != nil {
		return fmt.Errorf("set the damaged state aside: %w", err)
	}
	return fmt.Errorf("%w: %s: %v", ErrBadState, path, cause)
}

// Save replaces the state file: after it returns nil, s survives a power cut;
// with an error, or a crash in between, the old content does.
func (d *StateDir) Save(s *State) error {
	s.Version = stateVersion
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	if err := atomicfile.Replace(d.Path(stateName), append(b, '\n')); err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	return nil
}
