package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/etcd-drill/drill/hack/nodeimage/internal/image"
)

func layer(t *testing.T, files ...image.File) v1.Layer {
	t.Helper()
	l, err := image.FileLayer(files)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func digest(t *testing.T, l v1.Layer) string {
	t.Helper()
	d, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// The same content gives the same layer, whatever the order of the files, the time and the host's modes are.
func TestFileLayerIsReproducible(t *testing.T) {
	source := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := image.File{Path: "usr/local/bin/program", Mode: 0o755, Source: source}
	b := image.File{Path: "etc/conf", Mode: 0o644, Data: []byte("x")}
	first := digest(t, layer(t, a, b))
	if err := os.Chtimes(source, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if second := digest(t, layer(t, b, a)); second != first {
		t.Errorf("the layer differs: %s, %s", first, second)
	}
	b.Data = []byte("y")
	if other := digest(t, layer(t, a, b)); other == first {
		t.Error("another content gives the same layer")
	}
}

func TestFileLayerHoldsParentsOnceAndFirst(t *testing.T) {
	l := layer(t,
		image.File{Path: "usr/local/bin/a", Mode: 0o755}, image.File{Path: "usr/local/bin/b", Mode: 0o755},
		image.File{Path: "var/log/link", Link: "/dev/stdout"})
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var names []string
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Name == "var/log/link" && (h.Typeflag != tar.TypeSymlink || h.Linkname != "/dev/stdout") {
			t.Errorf("the link is %c to %q", h.Typeflag, h.Linkname)
		}
	}
	want := []string{"usr/", "usr/local/", "usr/local/bin/", "var/", "var/log/", "usr/local/bin/a", "usr/local/bin/b", "var/log/link"}
	if !slices.Equal(names, want) {
		t.Errorf("entries = %q, want %q", names, want)
	}
}

func TestFileLayerNamesWhatIsMissing(t *testing.T) {
	if _, err := image.FileLayer([]image.File{{Path: "a", Source: "/does/not/exist"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err = %v, want not exist", err)
	}
}

// A layer that images share is written once, and every name can be read back as the image that was built.
func TestWriteArchive(t *testing.T) {
	shared := layer(t, image.File{Path: "shared", Data: bytes.Repeat([]byte("s"), 1<<20)})
	specs := []image.Spec{
		{Names: []string{"localhost/a:1", "localhost/a:latest"}, Layers: []v1.Layer{shared, layer(t, image.File{Path: "a"})}, Entrypoint: []string{"/a"}},
		{Names: []string{"localhost/b:1"}, Layers: []v1.Layer{shared}, Labels: map[string]string{"k": "v"}},
	}
	var out bytes.Buffer
	if err := image.WriteArchive(&out, specs); err != nil {
		t.Fatal(err)
	}
	archive := out.Bytes()
	if len(archive) > 3<<19 {
		t.Errorf("the archive has %d bytes: the shared layer is in it twice", len(archive))
	}
	for _, n := range []string{"localhost/a:latest", "localhost/b:1"} {
		tag, err := name.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, &tag)
		if err != nil {
			t.Fatalf("%s: %v", n, err)
		}
		wanted := specs[0]
		if n == "localhost/b:1" {
			wanted = specs[1]
		}
		built, err := wanted.Build()
		if err != nil {
			t.Fatal(err)
		}
		want, err1 := built.ConfigName()
		got, err2 := img.ConfigName()
		if err := errors.Join(err1, err2); err != nil || got != want {
			t.Errorf("%s: read back as %s, built as %s, %v", n, got, want, err)
		}
		if config, err := img.ConfigFile(); err != nil || config.OS != "linux" || len(config.Config.Env) == 0 {
			t.Errorf("%s: config %+v, %v", n, config, err)
		}
	}
}
