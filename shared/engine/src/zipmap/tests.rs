use super::*;
use crate::{EngineError, OnnxFile};

/// A classifier as scikit-learn's exporter writes it: a field that is not known here stands in every message.
fn classifier(used: bool) -> Vec<u8> {
    let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let node = |operation: &str, inputs: &[&str], outputs: &[&str]| pb::NodeProto {
        op_type: operation.to_owned(),
        input: texts(inputs),
        output: texts(outputs),
        ..pb::NodeProto::default()
    };
    let mut zip = node("ZipMap", &["probabilities"], &["output_probability"]);
    ML_DOMAIN.clone_into(&mut zip.domain);
    zip.attribute = vec![pb::AttributeProto {
        name: "classlabels_strings".to_owned(),
        strings: vec![b"crack".to_vec(), b"good".to_vec()],
        ..pb::AttributeProto::default()
    }];
    let port = |name: &str, kind: DataType, columns: Option<i64>| {
        let columns = Dimension { value: columns.map(dimension::Value::DimValue), ..Dimension::default() };
        let shape = Some(pb::TensorShapeProto { dim: vec![Dimension::default(), columns] });
        let tensor = type_proto::Tensor { elem_type: kind.into(), shape };
        let value = Some(type_proto::Value::TensorType(tensor));
        let kind = Some(pb::TypeProto { value, ..pb::TypeProto::default() });
        pb::ValueInfoProto { name: name.to_owned(), r#type: kind, ..pb::ValueInfoProto::default() }
    };
    // Its type is a list of maps, which this reading of ONNX leaves out.
    let maps = pb::ValueInfoProto { name: "output_probability".to_owned(), ..pb::ValueInfoProto::default() };
    let label = node("ArgMax", &["x"], &["output_label"]);
    let mut nodes = vec![node("Softmax", &["x"], &["probabilities"]), label, zip];
    if used {
        nodes.push(node("Identity", &["output_probability"], &["again"]));
    }
    let graph = pb::GraphProto {
        node: nodes,
        input: vec![port("x", DataType::Float, Some(2))],
        output: vec![port("output_label", DataType::Int64, Some(1)), maps],
        ..pb::GraphProto::default()
    };
    let opset_import = [("", 13), (ML_DOMAIN, 1)]
        .map(|(domain, version)| pb::OperatorSetIdProto { domain: domain.to_owned(), version });
    let model =
        pb::ModelProto { opset_import: opset_import.into(), graph: Some(graph), ..pb::ModelProto::default() };
    let mut file = model.encode_to_vec();
    // Field 1999, of a later version of ONNX.
    encoding::encode_key(1999, WireType::LengthDelimited, &mut file);
    encoding::encode_varint(5, &mut file);
    file.extend_from_slice(b"later");
    file
}

#[test]
fn a_list_of_maps_is_served_as_a_table_with_a_column_a_class() {
    let bytes = classifier(false);
    let file = OnnxFile::read(bytes.clone().into(), None).unwrap();
    let names: Vec<&str> = file.signature.outputs.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["output_label", "output_probability"]);
    let table = &file.signature.outputs[1];
    assert_eq!((table.datatype, table.wire_shape()), (Datatype::Fp32, vec![-1, 2]));
    assert_eq!(file.signature.zipped[0].classes, ["crack", "good"]);
    assert!(file.signature.may_batch() && file.signature.left_out.is_empty());
    // The rest is what it was, what is not known here too.
    assert!(file.bytes.ends_with(b"later") && !file.bytes.windows(6).any(|part| part == b"ZipMap"));
    let again = OnnxFile::read(file.bytes.clone(), None).unwrap();
    assert!(again.signature.zipped.is_empty());
    assert_eq!(again.signature.outputs[1].wire_shape(), [-1, 2]);
}

#[test]
fn what_is_no_tensor_is_left_out_beside_one_that_is() {
    // Something else in the graph needs the maps, so that they stay.
    let file = OnnxFile::read(classifier(true).into(), None).unwrap();
    assert_eq!(
        (file.signature.left_out.as_slice(), file.signature.outputs.len()),
        (&["output_probability".to_owned()][..], 1)
    );
    let mut proto = pb::ModelProto::decode(&*classifier(true)).unwrap();
    proto.graph.as_mut().unwrap().output.remove(0);
    let error = OnnxFile::read(proto.encode_to_vec().into(), None).unwrap_err();
    assert!(matches!(&error, EngineError::Kind { name, .. } if name == "output_probability"), "{error}");
}

#[test]
fn a_file_that_is_cut_off_is_no_onnx_file() {
    let zipped = OnnxFile::read(classifier(false).into(), None).unwrap().signature.zipped.clone();
    let bytes = classifier(false);
    for length in [1, 20, bytes.len() - 9] {
        let error = unzip(&bytes[..length], &zipped).unwrap_err();
        assert!(matches!(error, EngineError::NotOnnx(_)), "{error}");
    }
}
