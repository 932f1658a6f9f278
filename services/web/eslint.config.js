import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["node_modules", "src/encoder/assets"] },
  ...tseslint.configs.strict,
  {
    rules: {
      // Indexes are checked by the shape of the loops here; the compiler's noUncheckedIndexedAccess asks for the mark.
      "@typescript-eslint/no-non-null-assertion": "off",
    },
  },
);
