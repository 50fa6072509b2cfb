package main

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"sidecar/internal/output"
)

// gelfPath is the path of Graylog's GELF input over HTTP.
const gelfPath = "/gelf"

// hostAndPath is the check of URLs that have a host, perhaps a port and a path, and
// nothing else: Graylog answers a query with 404.
func hostAndPath(u *url.URL) error {
	rest := *u
	rest.Path, rest.RawPath = "", ""
	if hostOnly(&rest) != nil {
		return errors.New("not a host with a port and a path and nothing else")
	}
	return nil
}

// http returns GELF over HTTP, or HTTPS if the scheme says so.
func (o opener) http(u *url.URL) (output.Output, error) {
	target := url.URL{Scheme: strings.TrimPrefix(u.Scheme, "gelf+"), Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if target.Path == "" || target.Path == "/" {
		target.Path = gelfPath
	}
	options := output.HTTPOptions{URL: &target, Authorization: o.Output.HTTP.Token.Reveal, Bulk: o.Output.HTTP.Bulk,
		MaxBodyBytes: int(o.Output.HTTP.MaxBody), DialTimeout: time.Duration(o.Output.Timeout), Resolver: o.resolver()}
	var err error
	if options.Compression, err = o.compression("zlib"); err != nil {
		return nil, err
	}
	if _, err := options.Authorization(); err != nil {
		return nil, o.effective.Errorf("output.http.token", "%v", err)
	}
	if u.Scheme == "gelf+https" {
		if options.TLS, err = o.tls(u.Hostname()); err != nil {
			return nil, err
		}
	}
	return output.NewHTTP(options), nil
}

// udp returns GELF over UDP.
func (o opener) udp(u *url.URL) (output.Output, error) {
	options := output.UDPOptions{Address: u.Host, ChunkBytes: int(o.Output.UDPChunk), DialTimeout: time.Duration(o.Output.Timeout)}
	var err error
	options.Compression, err = o.compression()
	return output.NewUDP(options), err
}

// compressions are the values of output.compress. For TCP auto means none.
var compressions = map[string]output.Compression{
	"auto": output.Gzip, "none": output.NoCompression, "gzip": output.Gzip, "zlib": output.Zlib,
}

// compression returns what output.compress says, for an output that does not take
// the values of without.
func (o opener) compression(without ...string) (output.Compression, error) {
	if slices.Contains(without, o.Output.Compress) {
		return 0, o.effective.Errorf("output.compress", `%q is not possible for this kind of output: leave it at "auto"`, o.Output.Compress)
	}
	return compressions[o.Output.Compress], nil
}
