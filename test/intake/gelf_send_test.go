package intake

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// posts sends each message by HTTP until it is answered by 202.
func (f *flow) posts(a *sent) error {
	p := newPace(f.Rate)
	client := &http.Client{}
	for n := 1; n <= f.Count; n++ {
		if err := p.wait(n, nil); err != nil {
			return err
		}
		for answered := false; !answered; {
			resp, err := client.Post(strings.TrimPrefix(f.Listen, "gelf+")+"/gelf", "application/json", strings.NewReader(f.message(n)))
			if a.Sent < n {
				a.Sent = n
			} else {
				a.Again++
			}
			if err != nil {
				a.Broken++ // a refusal too: what is sent to a socket of systemd meets none
				if strings.Contains(err.Error(), "connection refused") {
					a.Refused++
					return err
				}
				continue
			}
			_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
			resp.Body.Close()
			answered = resp.StatusCode == http.StatusAccepted
			if !answered && resp.StatusCode != http.StatusServiceUnavailable {
				return fmt.Errorf("message %d: %s", n, resp.Status)
			}
		}
	}
	return nil
}
