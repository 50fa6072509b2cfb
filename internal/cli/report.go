package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Report prints what the verb check finds, a line for each part. The zero value of errs
// is a report in which all is well so far.
type Report struct {
	w    io.Writer
	errs []error
}

// NewReport begins the report of cmd with the files that the configuration was read
// from.
func NewReport(cmd *cobra.Command, files []string) *Report {
	r := &Report{w: cmd.OutOrStdout()}
	found := "built-in defaults, no file was read (see " + cmd.Root().Name() + " config --help)"
	if len(files) > 0 {
		found = strings.Join(files, ", ")
	}
	r.Add("configuration", nil, found)
	return r
}

// Add reports a part: what was found, or with err that it is not well.
func (r *Report) Add(part string, err error, found string) {
	if err != nil {
		r.errs = append(r.errs, err)
		fmt.Fprintf(r.w, "FAIL  %s\n", part)
		return
	}
	fmt.Fprintf(r.w, "ok    %s: %s\n", part, Printable(found))
}

// Err joins the errors of all parts, with the exit code of the first; nil if all is
// well.
func (r *Report) Err() error {
	if len(r.errs) == 0 {
		return nil
	}
	return WithCode(ExitCode(r.errs[0]), errors.Join(r.errs...))
}

// CheckDirectory says whether a daemon could make dir, and files in it. It does not
// create or lock anything: as another user it would leave a directory that the daemon
// cannot use. The error is a *fs.PathError.
func CheckDirectory(dir string) (found string, err error) {
	// Of a directory that would be created, the nearest one above it counts.
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue
		}
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "use", Path: at, Err: unix.ENOTDIR}
		}
		if err == nil {
			if err = unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
				err = &fs.PathError{Op: "write to", Path: at, Err: err}
			}
		}
		if err != nil {
			return "", err
		}
		if at != filepath.Clean(dir) {
			return dir + ", will be created", nil
		}
		return dir, nil
	}
}
