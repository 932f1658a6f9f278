export const mockServer = () => ({ name: "x" });
