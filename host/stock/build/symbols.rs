//! Removes the symbol table of a compiled component. It names functions for debuggers; wasmtime reads sections only,
//! and the tables of the stock plugins would add 0.1 MB to the program.

/// Sections to remove.
const UNNEEDED: [&[u8]; 2] = [b".symtab", b".strtab"];
/// Size in bytes of an entry of the section header table of a 64-bit ELF file.
const HEADER: usize = 64;

/// Returns the little-endian number of `N` bytes at an offset.
fn number<const N: usize>(elf: &[u8], place: usize) -> Option<usize> {
    let mut bytes = [0; 8];
    bytes.get_mut(..N)?.copy_from_slice(elf.get(place..place.checked_add(N)?)?);
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}

/// Returns a copy of a 64-bit little-endian ELF file without its symbols, if these and the section headers are at its
/// end, as wasmtime writes them. Returns `None` for any other file.
pub(crate) fn removed(elf: &[u8]) -> Option<Vec<u8>> {
    let (table, count, names) = (number::<8>(elf, 0x28)?, number::<2>(elf, 0x3c)?, number::<2>(elf, 0x3e)?);
    if !elf.starts_with(b"\x7fELF\x02\x01") || table.checked_add(count.checked_mul(HEADER)?)? != elf.len() {
        return None;
    }
    let headers: Vec<&[u8]> = elf.get(table..)?.chunks_exact(HEADER).collect();
    let place = |header: &[u8]| Some((number::<8>(header, 0x18)?, number::<8>(header, 0x20)?));
    let (text, _) = place(headers.get(names)?)?;
    let name = |header: &[u8]| {
        let rest = elf.get(text.checked_add(number::<4>(header, 0)?)?..)?;
        rest.split(|byte| *byte == 0).next()
    };
    let (gone, kept): (Vec<_>, Vec<_>) =
        headers.iter().enumerate().partition(|(_, header)| name(header).is_some_and(|name| UNNEEDED.contains(&name)));
    let end = gone.iter().filter_map(|(_, header)| Some(place(header)?.0)).min()?;
    let mut short = elf.get(..end)?.to_vec();
    let mut rows = Vec::new();
    for (number, header) in &kept {
        let mut header = header.to_vec();
        let (start, length) = place(&header)?;
        if start >= end {
            // The names of the sections; nothing else may follow the symbols.
            if *number != names {
                return None;
            }
            header.get_mut(0x18..0x20)?.copy_from_slice(&(short.len() as u64).to_le_bytes());
            short.extend_from_slice(elf.get(start..start.checked_add(length)?)?);
        }
        rows.extend_from_slice(&header);
    }
    short.resize(short.len().next_multiple_of(8), 0);
    let table = (short.len() as u64).to_le_bytes();
    let names = kept.iter().position(|(number, _)| *number == names)?;
    short.extend_from_slice(&rows);
    short.get_mut(0x28..0x30)?.copy_from_slice(&table);
    short.get_mut(0x3c..0x3e)?.copy_from_slice(&u16::try_from(kept.len()).ok()?.to_le_bytes());
    short.get_mut(0x3e..0x40)?.copy_from_slice(&u16::try_from(names).ok()?.to_le_bytes());
    Some(short)
}
