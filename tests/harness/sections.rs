//! Sections that are put at the end of a component, or are all of one.

/// The head of a component.
pub const COMPONENT_HEAD: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// A section of a component that takes its time to compile: a core module of so many functions.
pub fn functions_section(functions: usize) -> Vec<u8> {
    // `local.get 0`, `i32.const 1` and `i32.add`, 20 times over.
    let mut body = vec![0, 0x20, 0];
    for _ in 0..20 {
        body.extend([0x41, 1, 0x6a]);
    }
    body.push(0x0b);
    let mut code = leb(functions);
    for _ in 0..functions {
        code.extend(leb(body.len()));
        code.extend(&body);
    }
    let mut types = leb(functions);
    types.resize(types.len() + functions, 0);

    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // One type: from i32 to i32.
    module.extend(section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]));
    module.extend(section(3, &types));
    module.extend(section(10, &code));
    section(1, &module)
}

/// A custom section of so many bytes, which cannot be compressed.
pub fn random_section(bytes: usize) -> Vec<u8> {
    let mut content = vec![3, b'p', b'a', b'd'];
    content.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(bytes));
    section(0, &content)
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], &leb(content.len())[..], content].concat()
}

/// A number in LEB128.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        match number {
            0 => bytes.push(low),
            _ => bytes.push(low | 0x80),
        }
        if number == 0 {
            return bytes;
        }
    }
}
