package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// ErrTooLong means that a page is longer than its reader allows, compressed or not.
var ErrTooLong = errTooLong

// Page is a document of a server, such as the metrics of a service. It is asked for as
// a check is, with the same restrictions: a connection of its own each time, redirects
// are not followed, and only this machine is asked unless Env allows others.
type Page struct {
	// URL is the page as it was written, without options.
	URL string
	// Key tells pages apart: two with the same Key are the same. It holds references to
	// secrets, never secrets.
	Key string
	// Options are the values of the options that ParsePage was told to leave to its
	// caller.
	Options map[string]string
	web     *web
}

// ParsePage returns the page of a URL with the options of an HTTP check that say how to
// connect: socket, header.NAME, host, ca, verify, name. Options of the names in own are
// left to the caller. It opens nothing but the file of the option ca.
func ParsePage(text string, own []string, env Env) (*Page, error) {
	p, err := parsePage(text, own, env)
	if err != nil {
		return nil, fmt.Errorf("parse page %q: %w", cutText(withoutSecrets(text), 64), err)
	}
	return p, nil
}

func parsePage(text string, own []string, env Env) (*Page, error) {
	t, err := splitTarget(text, nil, env)
	if err != nil {
		return nil, err
	}
	if t.kind != "http" && t.kind != "https" || t.url == nil {
		return nil, errors.New("want http://host:port/path")
	}
	p := &Page{URL: t.url.String(), Options: map[string]string{}}
	p.Key = p.URL + "#" + t.opt.canonical()
	for _, name := range own {
		if t.opt.has(name) {
			p.Options[name] = t.opt.values[name]
		}
	}
	if p.web, err = newWeb(t, t.url, http.MethodGet); err != nil {
		return nil, err
	}
	return p, t.opt.finish()
}

// Get asks for the page in one of the content types of accept, an Accept header (RFC
// 9110 section 12.5.1). It appends the page to dst and returns that with the page's
// content type, by the time ctx is done. A page of more than limit bytes is an error
// that wraps ErrTooLong; so is anything but a whole page with the status 200 one. claim,
// if it is not nil, is told again and again how many bytes of the page are there; its
// error ends that, and is wrapped.
func (p *Page) Get(ctx context.Context, accept string, dst []byte, limit int, claim func(size int) error) (page []byte, contentType string, err error) {
	w := *p.web
	w.accept, w.claim = accept, claim
	a, err := w.get(ctx, dst, limit)
	switch {
	case err != nil:
		return dst, "", pageError{err}
	case a.code != http.StatusOK:
		return dst, "", fmt.Errorf("status %d", a.code)
	case a.tooLong:
		return dst, "", fmt.Errorf("%w: over %d bytes", ErrTooLong, limit)
	case a.unpacked != nil:
		return dst, "", a.unpacked
	}
	return a.body, a.header.Get("Content-Type"), nil
}

// pageError is why a page could not be had. Its text is that of the cause, as in the
// result of a check: without ports, which are different each time.
type pageError struct{ err error }

func (e pageError) Error() string { return cause(e.err) }
func (e pageError) Unwrap() error { return e.err }
