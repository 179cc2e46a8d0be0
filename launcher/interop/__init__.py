"""Read and write the files of other tools: inventories, task files, batch scripts."""
