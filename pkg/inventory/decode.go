package inventory

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/etcd-drill/drill/pkg/plan"
)

// stored is a value of etcd, taken apart as far as it can be.
type stored struct {
	key    string
	object plan.Object
	// content is the object as JSON has it; nil for what is no object, and for what is encrypted.
	content map[string]any
	// opaque is what of the value content doesn't show: all of it, or the fields of types that this build doesn't know.
	opaque []byte
	// encryption names the provider and the key of an encrypted value.
	encryption string
}

// How values begin.
const (
	// beginsProtobuf marks the built-in types (https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding).
	beginsProtobuf = "k8s\x00"
	// beginsEncrypted is followed by PROVIDER:VERSION:KEYNAME: and the ciphertext
	// (https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/#verifying-that-data-is-encrypted).
	beginsEncrypted = "k8s:enc:"
	// beginsCBOR is the tag that CBOR describes itself by (RFC 8949, 3.4.6). Custom resources are stored like that where the API server's feature gate
	// CBORServingAndStorage is on.
	beginsCBOR = "\xd9\xd9\xf7"
	// beginsYAML is how an API server writes YAML, with the fields in the order of their names; its flag --storage-media-type takes that, too.
	beginsYAML = "apiVersion: "
)

// decoder takes values apart. Its zero value is ready to use.
type decoder struct {
	// kinds are those of the built-in resources, once they were needed.
	kinds map[string]schema.GroupVersionKind
}

// decode takes a value apart. What it can't make sense of is opaque, so that it never fails: whatever it is, it can be compared.
func (d *decoder) decode(key string, value []byte) stored {
	s := stored{key: key}
	switch {
	case bytes.HasPrefix(value, []byte(beginsEncrypted)):
		s.encryption = encryptionOf(value)
	case bytes.HasPrefix(value, []byte(beginsProtobuf)):
		s.content, s.opaque = fromProtobuf(value[len(beginsProtobuf):])
	case bytes.HasPrefix(value, []byte(beginsCBOR)):
		if direct.Unmarshal(value, &s.content) != nil {
			s.content = nil
		}
	default:
		s.content = fromJSON(value)
	}
	if s.content == nil {
		s.object, s.opaque = d.nameOf(key), value
		return s
	}
	u := unstructured.Unstructured{Object: s.content}
	s.object = named(u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName())
	if s.object.Name == "" {
		s.object.Name = printable(key) // the API server keeps books in the shape of objects: allocated ports, its own addresses
	}
	return s
}

// named is the name of an object that says so itself. Whatever stands in a file, it can be shown.
func named(apiVersion, kind, namespace, name string) plan.Object {
	return plan.Object{APIVersion: visible(apiVersion), Kind: visible(kind), Namespace: visible(namespace), Name: visible(name)}
}

// encrypted matches how an encrypted value begins: provider, version, and the name of the key, which is whatever the configuration calls it.
var encrypted = regexp.MustCompile(`^` + beginsEncrypted + `[a-z0-9]+:v[0-9]+[a-z0-9]*:[^:]+:`)

// encryptionOf returns how an encrypted value begins, up to the ciphertext, and "" where it doesn't begin so: what is there instead may be anything, also what nobody should see.
func encryptionOf(value []byte) string {
	begins := string(encrypted.Find(value[:min(len(value), 1024)]))
	if visible(begins) != begins {
		return ""
	}
	return begins
}

// The groups of CustomResourceDefinitions and APIServices, which the API server stores as JSON, as it does custom resources.
const (
	groupExtensions  = "apiextensions.k8s.io"
	groupAggregation = "apiregistration.k8s.io"
)

// fromJSON returns nil for what is no object of Kubernetes. Numbers stay as they are written: some don't fit into a float64.
func fromJSON(value []byte) map[string]any {
	if len(value) == 0 || value[0] != '{' {
		return nil
	}
	var content map[string]any
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if d.Decode(&content) != nil || d.More() {
		return nil
	}
	if u := (unstructured.Unstructured{Object: content}); u.GetKind() == "" || u.GetAPIVersion() == "" {
		return nil
	}
	return content
}

// message is what the generated types of Kubernetes can do.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// fromProtobuf reads the envelope, a runtime.Unknown, and what is in it. Of types that this build doesn't know only the metadata are read, which every object has as its
// first field.
func fromProtobuf(value []byte) (content map[string]any, opaque []byte) {
	e, err := openEnvelope(value)
	if err != nil {
		return nil, nil
	}
	apiVersion, kind := string(e.apiVersion), string(e.kind)
	known, err := scheme.Scheme.New(schema.FromAPIVersionAndKind(apiVersion, kind))
	m, ok := known.(message)
	if err == nil && ok && m.Unmarshal(e.raw) == nil {
		content, err = runtime.DefaultUnstructuredConverter.ToUnstructured(known)
		if err == nil {
			opaque = unknownFields(m, e.raw, content)
		}
	} else {
		content, opaque, err = metadataOnly(e.raw)
	}
	if err != nil {
		return nil, nil
	}
	content["apiVersion"], content["kind"] = apiVersion, kind
	return content, opaque
}

// Fields that almost every type has: metadata is the first, and where there is a status it is the third.
const (
	fieldMetadata protowire.Number = 1
	fieldStatus   protowire.Number = 3
)

// unknownFields returns nil where the message says all that was stored. Otherwise the cluster's Kubernetes has another version than this build, whose types may lack
// fields, and nobody would compare these: it returns everything but the metadata and the status as it is stored.
func unknownFields(m message, raw []byte, content map[string]any) []byte {
	if again, err := m.Marshal(); err == nil && bytes.Equal(again, raw) {
		return nil
	}
	without := []protowire.Number{fieldMetadata}
	if _, has := content["status"]; has {
		without = append(without, fieldStatus)
	}
	_, rest, ok := split(raw, without...)
	if !ok {
		return raw
	}
	return rest
}

// metadataOnly reads the metadata of an object of an unknown type, and returns the rest as it is.
func metadataOnly(raw []byte) (content map[string]any, rest []byte, err error) {
	metadata, rest, ok := split(raw, fieldMetadata)
	var o metav1.PartialObjectMetadata
	if !ok || o.ObjectMeta.Unmarshal(metadata) != nil {
		return map[string]any{}, raw, nil
	}
	content, err = runtime.DefaultUnstructuredConverter.ToUnstructured(&o)
	return content, rest, err
}

// split returns the content of a message's first field, and the fields that aren't named in without.
func split(raw []byte, without ...protowire.Number) (first, rest []byte, ok bool) {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return nil, nil, false
		}
		size := protowire.ConsumeFieldValue(number, kind, raw[n:])
		if size < 0 {
			return nil, nil, false
		}
		if number == fieldMetadata && kind == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(raw[n:])
			first = append(first, content...) // parts of one message that come apart are merged like this (https://protobuf.dev/programming-guides/encoding/#last-one-wins)
		}
		if !slices.Contains(without, number) {
			rest = append(rest, raw[:n+size]...)
		}
		raw = raw[n+size:]
	}
	return first, rest, true
}

// registry is where the API server keeps what it stores, unless its flag --etcd-prefix says otherwise.
const registry = "/registry/"

// nameOf names what can't be looked into by its key, which is /registry/RESOURCE/NAMESPACE/NAME, with the group in front of the resource for custom
// ones. What is no object is a "Key".
func (d *decoder) nameOf(key string) plan.Object {
	parts := strings.Split(strings.TrimPrefix(key, registry), "/")
	if !strings.HasPrefix(key, registry) || len(parts) < 2 {
		return plan.Object{Kind: "Key", Name: printable(key)}
	}
	var o plan.Object
	// The exceptions are SpecialDefaultResourcePrefixes in kubernetes' pkg/kubeapiserver/default_storage_factory_builder.go.
	switch {
	case parts[0] == "services" && parts[1] == "specs":
		o.APIVersion, o.Kind, parts = "v1", "Service", parts[2:]
	case parts[0] == "services" && parts[1] == "endpoints":
		o.APIVersion, o.Kind, parts = "v1", "Endpoints", parts[2:]
	case parts[0] == "minions":
		o.APIVersion, o.Kind, parts = "v1", "Node", parts[1:]
	case parts[0] == "controllers":
		o.APIVersion, o.Kind, parts = "v1", "ReplicationController", parts[1:]
	case parts[0] == "ingress":
		o.APIVersion, o.Kind, parts = "networking.k8s.io/v1", "Ingress", parts[1:]
	case strings.Contains(parts[0], "."):
		// The version is not in the key.
		o.APIVersion, o.Kind, parts = parts[0]+"/", parts[1], parts[2:]
	default:
		gvk := d.kindOf(parts[0])
		o.APIVersion, o.Kind = gvk.GroupVersion().String(), gvk.Kind
		parts = parts[1:]
	}
	switch len(parts) {
	case 1:
		o.Name = parts[0]
	case 2:
		o.Namespace, o.Name = parts[0], parts[1]
	default:
		return plan.Object{Kind: "Key", Name: printable(key)}
	}
	return named(o.APIVersion, o.Kind, o.Namespace, o.Name)
}

// kindOf returns the kind of a built-in resource; one that this build doesn't know is its own kind.
func (d *decoder) kindOf(resource string) schema.GroupVersionKind {
	if d.kinds == nil {
		d.kinds = map[string]schema.GroupVersionKind{}
		for _, gv := range scheme.Scheme.PrioritizedVersionsAllGroups() {
			for kind := range scheme.Scheme.KnownTypes(gv) {
				plural, _ := meta.UnsafeGuessKindToResource(gv.WithKind(kind))
				// Events are in two groups, and stored as those of the core. The group extensions is of the past.
				if have, taken := d.kinds[plural.Resource]; !taken || have.Group == "extensions" || gv.Group == "" {
					d.kinds[plural.Resource] = gv.WithKind(kind)
				}
			}
		}
	}
	if gvk, ok := d.kinds[resource]; ok {
		return gvk
	}
	return schema.GroupVersionKind{Kind: resource}
}

// visible is a text as a terminal can show it: what controls one, or can't be seen, is written as Go does. Bytes that are no UTF-8 are replaced one by one, as encoding/json does: the same name is the same, whichever way it was read.
func visible(text string) string {
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	if strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	q := strconv.Quote(text)
	return q[1 : len(q)-1]
}

func printable(key string) string {
	if q := strconv.Quote(key); q != `"`+key+`"` {
		return q
	}
	return key
}
