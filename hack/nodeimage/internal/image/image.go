package image

import (
	"fmt"
	"io"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Spec is one image: its names, its layers from bottom to top, and what it runs.
type Spec struct {
	Names      []string
	Layers     []v1.Layer
	Entrypoint []string
	Cmd        []string
	StopSignal string
	Env        []string
	Labels     map[string]string
}

// pathEnv is what every image has, so that a command can be named without its folder.
const pathEnv = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Build puts the image together.
func (s Spec) Build() (v1.Image, error) {
	img, err := mutate.AppendLayers(empty.Image, s.Layers...)
	if err != nil {
		return nil, fmt.Errorf("putting %s together: %w", s.Names[0], err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("putting %s together: %w", s.Names[0], err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Created = v1.Time{Time: epoch()}
	file.Config = v1.Config{
		Entrypoint: s.Entrypoint,
		Cmd:        s.Cmd,
		StopSignal: s.StopSignal,
		Env:        append([]string{pathEnv}, s.Env...),
		Labels:     s.Labels,
	}
	img, err = mutate.ConfigFile(img, file)
	if err != nil {
		return nil, fmt.Errorf("putting %s together: %w", s.Names[0], err)
	}
	return img, nil
}

// WriteArchive writes the images to w in the form that `load` and `import` commands read. A layer that several images
// share is written once.
func WriteArchive(w io.Writer, specs []Spec) error {
	images := map[name.Reference]v1.Image{}
	for _, s := range specs {
		img, err := s.Build()
		if err != nil {
			return err
		}
		for _, n := range s.Names {
			tag, err := name.NewTag(n)
			if err != nil {
				return fmt.Errorf("naming an image: %w", err)
			}
			images[tag] = img
		}
	}
	if err := tarball.MultiRefWrite(images, w); err != nil {
		return fmt.Errorf("writing an image archive: %w", err)
	}
	return nil
}
