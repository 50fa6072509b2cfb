package scrape

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sidecar/internal/promtext"
)

// patience returns how long the scraper of r waits, as Prometheus says it in a header.
func patience(r *http.Request) time.Duration {
	seconds, err := strconv.ParseFloat(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || !(seconds > 0) {
		return defaultPatience
	}
	return time.Duration(min(seconds, patienceLimit.Seconds()) * float64(time.Second))
}

// ServeHTTP answers with the metrics of all targets and of this program. Scrapers that
// ask at the same time share one scrape of the targets. It is 503 if nothing comes of it
// within the scraper's patience, which takes a crowd of scrapers: targets that are late
// are just missing.
func (s *Scraper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	zip := weight(r.Header, "Accept-Encoding", "gzip") > 0
	f, err := s.join(wants(r.Header), zip, time.Now().Add(within(patience(r))))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.leave(f)
	select {
	case <-f.done:
	case <-r.Context().Done():
		return
	}
	if f.err != nil {
		http.Error(w, f.err.Error(), http.StatusServiceUnavailable)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept, Accept-Encoding")
	page := f.page
	if zip {
		h.Set("Content-Encoding", "gzip")
		page = f.zip
	}
	h.Set("Content-Length", strconv.Itoa(len(page)))
	_, _ = w.Write(page) // an error is the client's: it has gone
}

// wants returns what a scraper asks for by its Accept header.
func wants(h http.Header) wanted {
	text, open := weight(h, "Accept", "text/plain"), weight(h, "Accept", "application/openmetrics-text")
	w := wanted{format: promtext.Text}
	if open > 0 {
		w.format = promtext.OpenMetrics
	}
	protobuf := weight(h, "Accept", "application/vnd.google.protobuf", "proto=io.prometheus.client.MetricFamily", "encoding=delimited")
	w.protobuf = protobuf > 0 && protobuf >= max(text, open)
	return w
}

// weight returns how much a header prefers what, with parameters, from 0 for not at all to
// 1 (RFC 9110 section 12.4.2): that of the first item that names it. What does not look
// like a weight is 0.
func weight(h http.Header, name, what string, parameters ...string) float64 {
	for _, value := range h.Values(name) {
		for item := range strings.SplitSeq(value, ",") {
			words := strings.Split(strings.ReplaceAll(item, " ", ""), ";")
			if !strings.EqualFold(words[0], what) || slices.ContainsFunc(parameters, func(p string) bool { return !slices.Contains(words, p) }) {
				continue
			}
			for _, word := range words[1:] {
				if q, ok := strings.CutPrefix(word, "q="); ok {
					weight, err := strconv.ParseFloat(q, 64)
					if err != nil || !(weight >= 0) {
						return 0
					}
					return weight
				}
			}
			return 1
		}
	}
	return 0
}

// One answers with the page of one target as it is, for a scraper that wants to know
// with `up` if it is there: 502 if it cannot be read. The path values are app and, for
// an app with workers, worker.
func (s *Scraper) One(w http.ResponseWriter, r *http.Request) {
	m := s.find(r.PathValue("app"), r.PathValue("worker"))
	if m == nil {
		http.Error(w, "no such target, or it has no metrics: see /sd", http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), within(patience(r)))
	defer cancel()
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if accept == "" {
		accept = wanted{}.accept()
	}
	c := s.alone.claim(0)
	defer c.release()
	page, contentType, err := m.Page.Get(ctx, accept, s.borrow(), int(m.limits.PageBytes), c.grow)
	defer s.giveBack(page)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	_, _ = w.Write(page) // as above
}

// find returns a target, nil if there is none.
func (s *Scraper) find(app, worker string) *member {
	for _, m := range s.current() {
		if m.App == app && m.Worker == worker {
			return m
		}
	}
	return nil
}

// Discovery answers with the list of targets in the form of Prometheus' HTTP service
// discovery: each is scraped by way of One, at the address that the list was asked from.
func (s *Scraper) Discovery(w http.ResponseWriter, r *http.Request) {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	for _, m := range s.current() {
		labels := map[string]string{"app": m.App}
		path := "/targets/" + url.PathEscape(m.App)
		if m.Worker != "" {
			labels["worker"] = m.Worker
			path += "/" + url.PathEscape(m.Worker)
		}
		labels["__metrics_path__"] = path + "/metrics"
		groups = append(groups, group{[]string{r.Host}, labels})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(groups) // as above
}
