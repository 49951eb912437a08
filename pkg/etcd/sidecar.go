package etcd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/etcd-drill/drill/pkg/plan"
)

// Sidecar says of a snapshot what isn't in it: when it was taken, and of which etcd. It is JSON, in a file beside the snapshot.
type Sidecar struct {
	// SchemaVersion is 1.
	SchemaVersion int `json:"schemaVersion"`
	// File is the snapshot's name, without the folder.
	File string `json:"file"`
	// SHA256 is of the whole file, in hexadecimal: what sha256sum prints.
	SHA256   string `json:"sha256"`
	Bytes    int64  `json:"bytes"`
	Revision int64  `json:"revision"`
	Keys     int64  `json:"keys"`
	// EtcdVersion is that of the server; ClusterVersion what the members had agreed on.
	EtcdVersion    string `json:"etcdVersion"`
	ClusterVersion string `json:"clusterVersion"`
	// ClusterID and MemberID are etcd's, in hexadecimal as etcdctl prints them.
	ClusterID string `json:"clusterID"`
	MemberID  string `json:"memberID"`
	// KubeSystemUID is the UID of Namespace kube-system, by which clusters are told apart; empty where there is none.
	KubeSystemUID string `json:"kubeSystemUID"`
	// Endpoint is where it was taken.
	Endpoint string `json:"endpoint"`
	// TakenAt is when taking it began, by the clock of the machine that took it.
	TakenAt time.Time `json:"takenAt"`
	// TakenBy is the program that took it, with its version.
	TakenBy string `json:"takenBy"`
}

// ErrSidecar says that a snapshot's sidecar can't be read, or is that of another file.
var ErrSidecar = errors.New("sidecar of the snapshot")

// SidecarPath is where the sidecar of a snapshot is.
func SidecarPath(snapshot string) string { return snapshot + sidecarSuffix }

const sidecarSuffix = ".json"

// Matches returns an error that wraps ErrSidecar if the sidecar is that of another file.
func (s Sidecar) Matches(info plan.SnapshotInfo) error {
	if s.SHA256 == info.SHA256 && s.Bytes == info.Bytes {
		return nil
	}
	return fmt.Errorf("%w: it is of a file of %d bytes with SHA-256 %s, and %s has %d bytes with SHA-256 %s; one of the two was exchanged: fetch both again, or remove the sidecar if the snapshot is the right one",
		ErrSidecar, s.Bytes, s.SHA256, info.Path, info.Bytes, info.SHA256)
}

// maxSidecar is more than a sidecar can have, in bytes.
const maxSidecar = 1 << 20

// ReadSidecar reads the sidecar of a snapshot. Where there is none, the error wraps fs.ErrNotExist, also where something else has its name: what many tools write about a file is called like that. One that can't be used, or that was cut, wraps ErrSidecar.
func ReadSidecar(snapshot string) (Sidecar, error) {
	path := SidecarPath(snapshot)
	st, err := os.Stat(path)
	if err != nil {
		return Sidecar{}, err
	}
	if !st.Mode().IsRegular() { // to open a pipe would wait until somebody writes to it
		return Sidecar{}, fmt.Errorf("%w: %s is no regular file", fs.ErrNotExist, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return Sidecar{}, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxSidecar))
	if err != nil {
		return Sidecar{}, fmt.Errorf("%w: %w", ErrSidecar, err)
	}
	return parseSidecar(path, content)
}

// SidecarOf reads what was noted beside a verified snapshot, and takes the time over from there. It is nil where nothing was noted. The error wraps ErrSidecar where that is no note, or one about another file.
func SidecarOf(info *plan.SnapshotInfo) (*Sidecar, error) {
	s, err := ReadSidecar(info.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = s.Matches(*info)
	}
	if err != nil {
		return nil, err
	}
	info.TakenAt = s.TakenAt
	return &s, nil
}

func parseSidecar(path string, content []byte) (s Sidecar, err error) {
	var is struct {
		SchemaVersion *json.RawMessage `json:"schemaVersion"`
		TakenBy       *json.RawMessage `json:"takenBy"`
	}
	d := json.NewDecoder(bytes.NewReader(content))
	err = d.Decode(&is)
	// It is empty, or was cut: a copy that failed, and the snapshot was copied with it.
	cut := len(content) < maxSidecar && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) && beginsAsSidecar(content)
	if !cut && (err != nil || d.More() || is.SchemaVersion == nil || is.TakenBy == nil) {
		return Sidecar{}, fmt.Errorf("%w: %s is something else than what `drill snapshot save` writes", fs.ErrNotExist, path)
	}
	if !cut {
		err = json.Unmarshal(content, &s)
	}
	switch {
	case cut:
		err = fmt.Errorf("it ends before it is complete, after %d bytes", len(content))
	case err != nil:
	case s.SchemaVersion != 1:
		err = fmt.Errorf("it has schema version %d, and this drill knows 1", s.SchemaVersion)
	case len(s.SHA256) != 64 || strings.Trim(s.SHA256, "0123456789abcdef") != "" || s.Bytes < 1 || s.TakenAt.IsZero():
		err = errors.New("its sha256, bytes or takenAt make no sense")
	}
	if err != nil {
		return Sidecar{}, fmt.Errorf("%w: %s: %w; move it away, and the snapshot is used without it", ErrSidecar, path, err)
	}
	return s, nil
}

// beginsAsSidecar says whether a text is the beginning of what WriteSidecar writes, as far as it goes.
func beginsAsSidecar(content []byte) bool {
	first := []byte(`{"schemaVersion":`)
	dense := bytes.Join(bytes.Fields(content), nil)
	return bytes.HasPrefix(dense, first) || bytes.HasPrefix(first, dense)
}

// WriteSidecar writes the sidecar of a snapshot that is there already, with mode 0600. It appears whole or not at all, and never takes the place of another one: the error then wraps ErrTargetExists.
//
// It comes after the snapshot. Should this process end in between, there is a snapshot without a sidecar, which is as good as one that another tool took; the other way round there would be one that tells of a file that isn't
// there, and might be taken for that of a later one.
func WriteSidecar(snapshot string, s Sidecar) (err error) {
	path := SidecarPath(snapshot)
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	s.SchemaVersion, s.File = 1, filepath.Base(snapshot)
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	part, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.part")
	if err != nil {
		return err
	}
	defer func() {
		_ = part.Close()
		if rmErr := os.Remove(part.Name()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}()
	if _, err := part.Write(append(content, '\n')); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return err
	}
	if err := part.Close(); err != nil {
		return err
	}
	if err := publish(part.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}
