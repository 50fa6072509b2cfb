package promtext

import (
	"fmt"
	"mime"
)

// Format is a format of a page.
type Format uint8

const (
	// Text is the text format of Prometheus, version 0.0.4.
	Text Format = iota
	// OpenMetrics is OpenMetrics 1.0 in text.
	OpenMetrics
)

// ContentType returns the value of the header of an answer in the format.
func (f Format) ContentType() string {
	if f == OpenMetrics {
		return "application/openmetrics-text; version=1.0.0; charset=utf-8"
	}
	return "text/plain; version=0.0.4; charset=utf-8"
}

// ParseContentType returns the format that the header of an answer names. As for
// Prometheus since version 3, no header is an error, and any version of text/plain is
// version 0.0.4. OpenMetrics 2.0 and protobuf are errors: they are not read.
func ParseContentType(header string) (Format, error) {
	media, parameters, err := mime.ParseMediaType(header)
	if err != nil {
		return 0, fmt.Errorf("parse content type %.64q: %w", header, err)
	}
	switch version := parameters["version"]; {
	case media == "text/plain":
		return Text, nil
	case media == "application/openmetrics-text" && (version == "" || version == "1.0.0" || version == "0.0.1"):
		return OpenMetrics, nil
	}
	return 0, fmt.Errorf("read content type %.64q: neither text/plain nor application/openmetrics-text; version=1.0.0", header)
}
