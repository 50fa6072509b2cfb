package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"sidecar/internal/daemon"
)

// Names of sockets that systemd passes on, FileDescriptorName= of the socket unit.
const (
	publicName  = "public"
	privateName = "private"
)

// listeners are where healthd is asked.
type listeners struct {
	public  []net.Listener
	private []net.Listener
	socket  net.Listener // of the verbs
}

func (l *listeners) close() {
	for _, each := range append(slices.Concat(l.public, l.private), l.socket) {
		if each != nil {
			_ = each.Close() // nothing has been served yet
		}
	}
}

// listen opens all listeners. A socket that systemd passes on takes the place of the
// address of the configuration that it has, so that a restart refuses nobody.
func (r *runner) listen() (*listeners, error) {
	l := new(listeners)
	ok := false
	defer func() {
		if !ok {
			l.close()
		}
	}()
	passed, err := r.inherit()
	l.public, l.private = passed[publicName], passed[privateName]
	if err != nil {
		return nil, err
	}
	if l.public, err = r.open(l.public, r.c.Public.Listen); err != nil {
		return nil, fmt.Errorf("open public.listen: %w", err)
	}
	for _, address := range r.c.Public.Listen {
		if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix && !has(passed[publicName], address) {
			// It is public: whoever proxies for it may connect.
			if err := os.Chmod(path, 0o666); err != nil {
				return nil, fmt.Errorf("open public.listen: %w", err)
			}
		}
	}
	if l.private, err = r.open(l.private, r.c.Private.Listen); err != nil {
		return nil, fmt.Errorf("open private.listen: %w; [] switches it off", err)
	}
	if l.socket, err = listenSocket(r.c.socketPath()); err != nil {
		return nil, explainSocket(err)
	}
	ok = true
	return l, nil
}

// open returns passed with listeners at the addresses that none of passed has. With an
// error it returns those that are open.
func (r *runner) open(passed []net.Listener, addresses []string) ([]net.Listener, error) {
	all := slices.Clone(passed)
	for _, address := range addresses {
		if has(passed, address) {
			continue
		}
		each, err := daemon.Listen(address)
		if noAddress(err) && len(all) > 0 {
			r.log.Warn("an address is not of this machine, and is left out", "listen", address, "err", err)
			continue
		}
		if err != nil {
			return all, err
		}
		all = append(all, each)
	}
	return all, nil
}

// listenSocket opens the socket of the verbs, which only this user and root may use.
func listenSocket(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l, err := daemon.Listen("unix:" + path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

// explainSocket adds to an error of the socket of the verbs what to do.
func explainSocket(err error) error {
	err = fmt.Errorf("open private.socket: %w", err)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: set it to a path where this user may write (in a unit: RuntimeDirectory=healthd)", err)
	}
	return err
}

// inherit returns the sockets that systemd passed on, by their names (sd_listen_fds(3)).
func (r *runner) inherit() (map[string][]net.Listener, error) {
	passed := map[string][]net.Listener{}
	for _, f := range activation.Files(true) {
		each, err := net.FileListener(f)
		_ = f.Close() // the listener has a copy
		if err != nil {
			return passed, fmt.Errorf("use the socket %s of systemd: %w", f.Name(), err)
		}
		switch f.Name() {
		case publicName, privateName:
			passed[f.Name()] = append(passed[f.Name()], each)
		default:
			r.log.Warn("a socket of systemd is not used: want FileDescriptorName=public or private", "name", f.Name())
			_ = each.Close() // nobody has been told of it
		}
	}
	return passed, nil
}

// has reports whether one of the listeners has the address.
func has(all []net.Listener, address string) bool {
	return slices.ContainsFunc(all, func(l net.Listener) bool {
		if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
			return l.Addr().Network() == "unix" && l.Addr().String() == path
		}
		return l.Addr().Network() == "tcp" && l.Addr().String() == address
	})
}

// noAddress reports whether an address cannot be had on this machine: it has no IPv6.
func noAddress(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}
