// Package settings loads the layered TOML configuration of a daemon and knows
// where every value came from.
//
// It knows no key of its own. The daemon passes a pointer to a struct with
// `toml:"name"` tags that is filled with the compiled defaults; Load applies
// the layers to it, later ones over earlier ones (APP is the daemon's name in
// upper case):
//
//  1. the compiled defaults: what the struct holds already
//  2. default.toml in $APP_CONFIG_DIR, else in Options.Dir; optional
//  3. $APP_ENV.toml, else $NODE_ENV.toml, in the same directory; optional
//  4. the file of --config, else $APP_CONFIG, else $NODE_CONFIG_PATH; must exist
//  5. conf.d/*.toml beside the file of step 4, in the order of their names
//  6. the environment, APP_SECTION__KEY=value
//  7. --set section.key=value, in the order given
//
// Where nothing names a file or a directory, and Options.Dir has no default.toml,
// steps 2 to 5 are those of the installed daemon: Options.System in the place of
// the directory, and app.toml in it, which may be missing, as the file. So what an
// operator types on a server is about the daemon that runs there.
//
// A line `# @include "x/*.toml"` in any file applies other files just before
// the keys of that file, whichever line it is on. Tables merge, arrays replace.
// Nothing inside a file is expanded. Files are TOML 1.1, UTF-8, with or without
// a byte order mark, with LF or CRLF.
//
// A field may be a bool, an integer, a float, a string, a type with
// encoding.TextUnmarshaler and TextMarshaler (Duration, Size, Secret, or the
// daemon's own), a struct, a slice, or a map with string keys. Keys are matched
// exactly in files and --set, and without regard to case in the environment,
// where those of maps become lower case.
//
// The package does not watch files and does not log. What a value means beyond
// its type is for the daemon to check; Effective.Errorf makes such a verdict
// look like those of this package.
package settings

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
)

// Options are the inputs of Load. The package reads nothing else of the
// process.
type Options struct {
	// App is the daemon's name, such as "logship"; its upper case with "-"
	// as "_" is the prefix of the environment variables. Required.
	App string
	// Dir is where default.toml is looked for if $APP_CONFIG_DIR does not say;
	// empty means config. Daemons that share a root need one each.
	Dir string
	// System is the directory of the installed daemon's configuration, such as
	// /etc/logship; empty means that there is none.
	System string
	// Env is the environment as os.Environ returns it. Of several entries with
	// one name the first counts.
	Env []string
	// File is the argument of --config; empty means not given.
	File string
	// Set holds the arguments of --set, each "section.key=value".
	Set []string
	// Open opens a file or directory for reading; nil means os.Open. Paths are
	// absolute or relative to the working directory. Directories are expected
	// to implement fs.ReadDirFile.
	Open func(name string) (fs.File, error)
}

// Effective is the configuration after all layers: the daemon's struct and the
// origin of every value in it. It is not safe for use while the struct is
// being written.
type Effective struct {
	root    reflect.Value // the daemon's struct
	origins map[string]Origin
	files   []string
	paths   []string // every key that the struct can hold, for suggestions
}

// Files returns the paths of the files that were read, in the order in which
// they were applied. The caller must not modify it.
func (e *Effective) Files() []string { return e.files }

// Load applies all layers to the struct that dst points to.
//
// The error, if any, is a join (errors.Join) of *Error, one line each, sorted
// by file and line, with everything that is wrong in all layers; then the
// struct is partly filled and must not be used. Load panics if dst is not a
// pointer to a struct of supported field types, which is a mistake in the
// daemon and not in its configuration.
func Load(dst any, o Options) (*Effective, error) {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic("settings: Load needs a pointer to a struct")
	}
	checkType(v.Type().Elem(), "")
	l := newLoader(v.Elem(), o)
	l.applyFiles(o.File)
	l.applyEnvironment()
	for _, arg := range o.Set {
		l.applySet(arg)
	}
	if err := l.err(); err != nil {
		return nil, err
	}
	return &Effective{root: l.root, origins: l.origins, files: l.files, paths: l.paths}, nil
}

// loader holds the state of one Load.
type loader struct {
	root    reflect.Value
	prefix  string // of environment variables: "LOGSHIP_"
	app     string
	dir     string // of the default files
	system  string // see Options
	env     map[string]string
	access  *access
	paths   []string // see Effective
	origins map[string]Origin
	files   []string
	errs    []*Error
	// secretEnv holds the variables that secrets refer to: one of them may
	// have our prefix without being a key.
	secretEnv map[string]bool
}

func newLoader(root reflect.Value, o Options) *loader {
	open := o.Open
	if open == nil {
		open = func(name string) (fs.File, error) { return os.Open(name) }
	}
	env := make(map[string]string, len(o.Env))
	for _, kv := range o.Env {
		name, value, ok := strings.Cut(kv, "=")
		if _, dup := env[name]; ok && !dup {
			env[name] = value
		}
	}
	return &loader{
		root:      root,
		prefix:    strings.ToUpper(strings.ReplaceAll(o.App, "-", "_")) + "_",
		app:       o.App,
		dir:       cmp.Or(o.Dir, "config"),
		system:    o.System,
		env:       env,
		access:    &access{func(name string) string { return env[name] }, open},
		paths:     schemaPaths(root.Type(), ""),
		origins:   map[string]Origin{},
		secretEnv: map[string]bool{},
	}
}

// fail records an error; Load goes on, so that all errors are reported at once.
func (l *loader) fail(e *Error) { l.errs = append(l.errs, e) }

// err returns the errors so far as Load documents it.
func (l *loader) err() error {
	l.errs = slices.DeleteFunc(l.errs, func(e *Error) bool {
		return e.unknown && e.Origin.Layer == Environment && l.secretEnv[e.Origin.Name]
	})
	slices.SortStableFunc(l.errs, compareErrors)
	// A file can be applied twice, for example by two includes.
	l.errs = slices.CompactFunc(l.errs, func(a, b *Error) bool { return a.Error() == b.Error() })
	errs := make([]error, len(l.errs))
	for i, e := range l.errs {
		errs[i] = e
	}
	return errors.Join(errs...)
}
