package report

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// Names of the files that WriteDir writes.
const (
	JSONFile    = "report.json"
	JUnitFile   = "junit.xml"
	MetricsFile = "metrics.prom"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
	// metricsMode lets everybody read: node_exporter runs as a user of its own, and the metrics hold names, times and
	// counts only.
	metricsMode fs.FileMode = 0o644
)

// ErrDir says that a report directory can't be used; test for it with errors.Is.
var ErrDir = errors.New("report directory can't be used")

// CheckDir says whether WriteDir will be able to write to dir, and leaves nothing behind. Where dir doesn't exist yet,
// that is whether it can be made. Every error wraps ErrDir.
func CheckDir(dir string) error {
	existing := filepath.Clean(dir)
	for {
		info, err := os.Stat(existing)
		if err == nil {
			if !info.IsDir() {
				return fmt.Errorf("%w: %s is not a directory", ErrDir, existing)
			}
			break
		}
		if _, err := os.Lstat(existing); err == nil {
			return fmt.Errorf("%w: %s is a link to something that isn't there", ErrDir, existing)
		}
		if parent := filepath.Dir(existing); errors.Is(err, fs.ErrNotExist) && parent != existing {
			existing = parent
			continue
		}
		return fmt.Errorf("%w: %w", ErrDir, err)
	}
	// Permission bits alone don't tell: the file system may be read-only or full, or the user root. So it is tried.
	probe, err := os.MkdirTemp(existing, ".drill-report-")
	if err != nil {
		return fmt.Errorf("%w: nothing can be made in %s: %w; choose another with --report-dir", ErrDir, existing, err)
	}
	if err := os.Remove(probe); err != nil {
		return fmt.Errorf("%w: %w", ErrDir, err)
	}
	for _, name := range []string{JSONFile, JUnitFile, MetricsFile} {
		path := filepath.Join(dir, name)
		if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%w: %s is there and not a regular file", ErrDir, path)
		}
	}
	if _, err := render(dir, NewDocument()); err != nil {
		return fmt.Errorf("%w: %w", ErrDir, err)
	}
	return nil
}

// WriteDir writes report.json, junit.xml and metrics.prom into dir, which it makes if need be, and returns their paths.
// Each is written beside its place to a name that begins with a dot, synced, and renamed. Directories that it makes
// are 0700, files 0600, but metrics.prom 0644; a directory that is there keeps its mode. The time of the last proven
// recovery in a metrics.prom that is there is kept: see WriteMetrics. Where no run of the document counts in the metrics, metrics.prom
// is left as it is.
//
// On an error the paths are those that were written before it.
func WriteDir(dir string, doc Document) ([]string, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("make report directory: %w", err)
	}
	files, renderErr := render(dir, doc)
	var written []string
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		// WithTempDir keeps the unfinished file in dir: elsewhere it might be on another file system, where rename(2) can't move it.
		err := renameio.WriteFile(path, f.content, f.mode, renameio.WithTempDir(dir), renameio.WithStaticPermissions(f.mode))
		if err != nil {
			return written, fmt.Errorf("write report file %s: %w", path, err)
		}
		written = append(written, path)
	}
	return written, renderErr
}

type file struct {
	name    string
	mode    fs.FileMode
	content []byte
}

// render returns the files that could be rendered and the first error.
func render(dir string, doc Document) ([]file, error) {
	var jsonText, junitText, metricsText bytes.Buffer
	if err := WriteJSON(&jsonText, doc); err != nil {
		return nil, err
	}
	if err := WriteJUnit(&junitText, doc); err != nil {
		return nil, err
	}
	files := []file{{JSONFile, fileMode, jsonText.Bytes()}, {JUnitFile, fileMode, junitText.Bytes()}}

	path := filepath.Join(dir, MetricsFile)
	earlier, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return files, fmt.Errorf("read earlier metrics: %w", err)
	}
	if err := WriteMetrics(&metricsText, doc, bytes.NewReader(earlier)); err != nil {
		return files, fmt.Errorf("%s: %w; move that file away to begin anew", path, err)
	}
	if len(doc.Runs) > 0 && !slices.ContainsFunc(doc.Runs, counts) {
		return files, nil
	}
	return append(files, file{MetricsFile, metricsMode, metricsText.Bytes()}), nil
}
