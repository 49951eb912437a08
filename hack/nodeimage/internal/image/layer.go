// Package image puts container images together from files, without a container engine and without a registry.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is one entry of a layer. Exactly one of Source, Data and Link says what is in it.
type File struct {
	Path   string // inside the image, without a leading slash
	Mode   int64
	Source string // a file on this host
	Data   []byte
	Link   string // the target of a symbolic link
}

// layer is a v1.Layer whose bytes are a plain tar archive. Nothing is compressed: these images only ever travel over a
// local pipe, and compressing several hundred megabytes would be the longest part of the way.
type layer struct {
	open func() (io.ReadCloser, error)
	hash v1.Hash
	size int64
}

// TarLayer is a layer from the tar archive at path.
func TarLayer(path string) (v1.Layer, error) {
	return newLayer(func() (io.ReadCloser, error) { return os.Open(path) })
}

// FileLayer is a layer from single files. The same files give the same layer, at any time and on any host.
func FileLayer(files []File) (v1.Layer, error) {
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int {
		return bytes.Compare([]byte(a.Path), []byte(b.Path))
	})
	return newLayer(func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(writeTar(w, files)) }()
		return r, nil
	})
}

func newLayer(open func() (io.ReadCloser, error)) (v1.Layer, error) {
	r, err := open()
	if err != nil {
		return nil, fmt.Errorf("reading a layer: %w", err)
	}
	defer r.Close()
	h := sha256.New()
	size, err := io.Copy(h, r)
	if err != nil {
		return nil, fmt.Errorf("reading a layer: %w", err)
	}
	return &layer{open: open, size: size, hash: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}}, nil
}

// Digest is the same as DiffID: what is sent is what is unpacked.
func (l *layer) Digest() (v1.Hash, error) { return l.hash, nil }

// DiffID is the hash of the archive.
func (l *layer) DiffID() (v1.Hash, error) { return l.hash, nil }

// Compressed is the archive as it is sent.
func (l *layer) Compressed() (io.ReadCloser, error) { return l.open() }

// Uncompressed is the archive.
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.open() }

// Size is the length of the archive.
func (l *layer) Size() (int64, error) { return l.size, nil }

// MediaType says that the archive is not compressed.
func (l *layer) MediaType() (types.MediaType, error) { return types.DockerUncompressedLayer, nil }

// epoch is the time stamp of every entry; a real one would make each build's layers differ.
func epoch() time.Time { return time.Unix(0, 0) }

func writeTar(w io.Writer, files []File) error {
	t := tar.NewWriter(w)
	for _, dir := range parents(files) {
		header := &tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: epoch()}
		if err := t.WriteHeader(header); err != nil {
			return fmt.Errorf("writing a layer: %w", err)
		}
	}
	for _, f := range files {
		if err := writeFile(t, f); err != nil {
			return fmt.Errorf("writing %s to a layer: %w", f.Path, err)
		}
	}
	return t.Close()
}

func writeFile(t *tar.Writer, f File) error {
	header := &tar.Header{Name: f.Path, Typeflag: tar.TypeReg, Mode: f.Mode, ModTime: epoch()}
	if f.Link != "" {
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.Link, 0o777
		return t.WriteHeader(header)
	}
	var content io.Reader = bytes.NewReader(f.Data)
	header.Size = int64(len(f.Data))
	if f.Source != "" {
		source, err := os.Open(f.Source)
		if err != nil {
			return err
		}
		defer source.Close()
		info, err := source.Stat()
		if err != nil {
			return err
		}
		content, header.Size = source, info.Size()
	}
	if err := t.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(t, content)
	return err
}

// parents lists the folders that the files need, each once, outer ones first.
func parents(files []File) []string {
	set := map[string]bool{}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "." && dir != "/"; dir = path.Dir(dir) {
			set[dir] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
