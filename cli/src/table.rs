//! Columns as Go's `tabwriter` lays them out for runc: at least twelve wide, three blanks apart.

const LEAST: usize = 12;
const GAP: usize = 3;

/// Rows of cells as text.
pub(crate) fn layout<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count() + GAP).max().unwrap_or(0).max(LEAST)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            if index + 1 < N {
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_runcs() {
        let rows = [["ID", "PID", "OWNER"], ["a-longer-name", "1", "root"]].map(|row| row.map(str::to_owned));
        assert_eq!(layout(&rows), "ID              PID         OWNER\na-longer-name   1           root\n");
    }
}
