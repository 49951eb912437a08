package sabotage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/plan"
	"github.com/etcd-drill/drill/pkg/stage"
)

// DamagedSnapshot flips one bit in the middle of the snapshot.
func DamagedSnapshot() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "damaged-snapshot", Summary: "one bit of the snapshot is flipped after it was saved"},
		Breaks: []string{"snapshot-intact"},
		Insert: at("record-before", "flip-bit", "Flip a bit of the snapshot", func(_ context.Context, s *stage.Stage) error {
			return rewrite(s.Subject.Snapshot.Path, func(b []byte) ([]byte, error) {
				b[len(b)/2] ^= 1
				return b, nil
			})
		}),
		Harmless: true,
	}
}

// ForeignSnapshot puts a sound snapshot of another cluster in the place of the one that was taken. It is the same file with another UID of
// namespace kube-system, by which clusters are told apart, and a trailer that fits.
func ForeignSnapshot() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "foreign-snapshot", Summary: "the snapshot is sound, and of another cluster"},
		Breaks: []string{"snapshot-intact"},
		Insert: at("record-before", "exchange-snapshot", "Put another cluster's snapshot in its place", foreign),
		// Nothing was touched.
		Harmless: true,
	}
}

func foreign(ctx context.Context, s *stage.Stage) error {
	c, err := client(s)
	if err != nil {
		return err
	}
	ns, err := c.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return err
	}
	other := bytes.Map(func(r rune) rune {
		if r == '0' {
			return '1'
		}
		if r >= '1' && r <= '9' {
			return '0'
		}
		return r
	}, []byte(ns.UID))
	err = rewrite(s.Subject.Snapshot.Path, func(b []byte) ([]byte, error) {
		data := b[:len(b)-sha256.Size]
		if !bytes.Contains(data, []byte(ns.UID)) {
			return nil, errors.New("the snapshot doesn't hold the UID of kube-system in plain text")
		}
		data = bytes.ReplaceAll(data, []byte(ns.UID), other)
		sum := sha256.Sum256(data)
		return append(data, sum[:]...), nil
	})
	if err != nil {
		return err
	}
	taken := s.Subject.Snapshot.TakenAt
	info, err := etcd.Verify(ctx, s.Subject.Worker, s.Subject.Snapshot.Path)
	if err != nil {
		return fmt.Errorf("the other cluster's snapshot is not sound: %w", err)
	}
	info.TakenAt = taken
	*s.Subject.Snapshot = info
	return nil
}

// rewrite changes what a file holds and leaves its mode.
func rewrite(path string, change func([]byte) ([]byte, error)) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if b, err = change(b); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// ReadableSnapshot lets everybody read the snapshot, and with it every Secret.
func ReadableSnapshot() Fault {
	return Fault{
		Entry:  plan.Entry{Name: "readable-snapshot", Summary: "the snapshot is left readable for everybody"},
		Breaks: []string{"secrets-safe"},
		Insert: at("record-before", "chmod-snapshot", "Let everybody read the snapshot", func(_ context.Context, s *stage.Stage) error {
			return os.Chmod(s.Subject.Snapshot.Path, 0o644)
		}),
		Harmless: true,
	}
}
