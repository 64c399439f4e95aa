export default { server: { allowedHosts: "PLAIN" in process.env ? [] : [process.env.ADIT_HOST] } };
